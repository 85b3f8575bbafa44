"""Pages of the accounts app."""

from __future__ import annotations

from django.urls import path

from accounts import account_pages, pages

urlpatterns = [
    path("login", pages.login_page, name="login"),
    path("login/code", pages.login_code, name="login_code"),
    path("login/second-factor", pages.second_factor_page, name="login_second_factor"),
    path("login/again", pages.step_up_page, name="step_up"),
    path("login/<str:token>", pages.login_link, name="login_link"),
    path("logout", pages.logout_page, name="logout"),
    path("account", account_pages.account, name="account"),
    path("account/keys", account_pages.make_key, name="make_key"),
    path("account/keys/<uuid:key>/revoke", account_pages.revoke_key, name="revoke_key"),
    path("account/sessions/end-others", account_pages.end_other_sessions, name="end_other_sessions"),
    path("account/sessions/<uuid:session>/end", account_pages.end_session, name="end_session"),
    path("account/second-factor", account_pages.enrol, name="second_factor_enrol"),
    path("account/second-factor/begin", account_pages.begin_enrolment, name="second_factor_begin"),
    path("account/second-factor/codes", account_pages.new_codes, name="second_factor_codes"),
    path("account/second-factor/remove", account_pages.remove_second_factor, name="second_factor_remove"),
]
