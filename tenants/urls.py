"""Pages of the tenants app. A tenant is named by its slug: that is what people know it by."""

from __future__ import annotations

from django.urls import path

from tenants.pages import (
    access,
    acts,
    audit_trail,
    channels,
    configuration,
    console,
    invitations,
    listing,
    logs,
    members,
    overview,
    runs,
    wizard,
)

urlpatterns = [
    path("tenants/", listing.tenants_view, name="tenants"),
    path("new-tenant", wizard.start_view, name="wizard"),
    path("runs/<uuid:public_id>", runs.run_view, name="run"),
    path("runs/<uuid:public_id>/live", runs.live_view, name="run_live"),
    path("invitations/<str:token>", invitations.invitation, name="invitation"),
    path("tenants/<str:slug>/", overview.overview_view, name="tenant_overview"),
    path("tenants/<str:slug>/state", overview.state_view, name="tenant_state"),
    path("tenants/<str:slug>/do/<slug:name>", acts.act_view, name="tenant_act"),
    path("tenants/<str:slug>/setup/model", wizard.model_view, name="tenant_setup_model"),
    path("tenants/<str:slug>/setup/channels", wizard.channels_view, name="tenant_setup_channels"),
    path("tenants/<str:slug>/setup/review", wizard.review_view, name="tenant_setup_review"),
    path("tenants/<str:slug>/configuration", configuration.configuration_view, name="tenant_configuration"),
    path("tenants/<str:slug>/configuration/history", configuration.history_view, name="tenant_history"),
    path("tenants/<str:slug>/configuration/history/<int:number>", configuration.rollback_view, name="tenant_rollback"),
    path("tenants/<str:slug>/channels", channels.channels_view, name="tenant_channels"),
    path("tenants/<str:slug>/channels/add/<slug:kind>", channels.add_view, name="tenant_channel_add"),
    path("tenants/<str:slug>/channels/<uuid:channel>", channels.change_view, name="tenant_channel"),
    path("tenants/<str:slug>/channels/<uuid:channel>/test", channels.test_view, name="tenant_channel_test"),
    path("tenants/<str:slug>/channels/<uuid:channel>/remove", channels.remove_view, name="tenant_channel_remove"),
    path("tenants/<str:slug>/members", members.members_view, name="tenant_members"),
    path("tenants/<str:slug>/members/invite", members.invite_view, name="tenant_invite"),
    path("tenants/<str:slug>/members/<uuid:member>", members.member_view, name="tenant_member"),
    path("tenants/<str:slug>/members/<uuid:member>/remove", members.remove_view, name="tenant_member_remove"),
    path("tenants/<str:slug>/invitations/<uuid:invitation>/revoke", members.revoke_view, name="tenant_uninvite"),
    path("tenants/<str:slug>/access", access.access_view, name="tenant_access"),
    path("tenants/<str:slug>/access/<uuid:token>/revoke", access.revoke_view, name="tenant_token_revoke"),
    path("tenants/<str:slug>/access/rotate", access.rotate_view, name="tenant_rotate"),
    path("tenants/<str:slug>/logs", logs.logs_view, name="tenant_logs"),
    path("tenants/<str:slug>/logs/download", logs.download_view, name="tenant_logs_download"),
    path("tenants/<str:slug>/console", console.console_view, name="tenant_console"),
    path("tenants/<str:slug>/runs", runs.runs_view, name="tenant_runs"),
    path("tenants/<str:slug>/audit", audit_trail.audit_view, name="tenant_audit"),
]
