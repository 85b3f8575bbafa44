"""Users and custom roles in the admin. Everything is changed through the services, so that the audit tells of it."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse

from accounts import services, stepup
from accounts.auth import origin_of
from accounts.emails import normalise_email
from accounts.models import Role, User
from accounts.permissions import ABILITIES, ROLES, SUPER_ADMIN_ONLY
from zcplatform.lib import clock
from zcplatform.lib.actors import Actor
from zcplatform.lib.errors import InvalidField


def actor_of(request: HttpRequest) -> Actor:
    """The logged-in user as the audit names them."""
    return request.user.as_actor(**origin_of(request))  # type: ignore[union-attr]


_FACTS = ("public_id", "second_factor_at", "last_login", "created_at")


class UserForm(forms.ModelForm):
    class Meta:
        model = User
        fields = ["email", "name", "is_active", "is_superuser"]

    def clean_email(self) -> str:
        try:
            return normalise_email(self.cleaned_data["email"])
        except InvalidField as error:
            raise forms.ValidationError(error.message) from error

    def clean(self) -> dict[str, Any] | None:
        """The last active super-admin stays one; the service says so again, inside its transaction."""
        data = super().clean() or {}
        others = User.objects.filter(is_superuser=True, is_active=True).exclude(pk=self.instance.pk)
        stays = data.get("is_active") and data.get("is_superuser")
        was = self.initial.get("is_active") and self.initial.get("is_superuser")
        if was and not stays and not others.exists():
            raise forms.ValidationError("The last active super-admin has to stay one.")
        return data


@admin.register(User)
class UserAdmin(admin.ModelAdmin):
    form = UserForm
    list_display = ["email", "name", "is_active", "is_superuser", "seen", "since"]
    list_filter = ["is_active", "is_superuser"]
    search_fields = ["email", "name"]
    ordering = ["email"]
    search_help_text = "E-mail or name"

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The list under its plain name."""
        return super().changelist_view(request, {"title": "Users", **(extra_context or {})})

    @admin.display(description="Last login, UTC", ordering="last_login")
    def seen(self, user: User) -> str:
        return user.last_login.astimezone(UTC).strftime(clock.MINUTE) if user.last_login else "never"

    @admin.display(description="Since", ordering="created_at")
    def since(self, user: User) -> str:
        return f"{user.created_at:%Y-%m-%d}"

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        return ["email", *_FACTS] if obj else []

    def get_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        return ["email", "name", "is_active", "is_superuser", *(_FACTS if obj else ())]

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False  # made inactive instead

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        if change:
            changes = {name: form.cleaned_data[name] for name in services.USER_FIELDS}
            if services.VOIDING & set(form.changed_data):
                stepup.require(request, "account.changed")
            services.update_user(obj, actor=actor_of(request), **changes)
            return
        data = form.cleaned_data
        if data["is_superuser"]:
            stepup.require(request, "account.changed")
        made = services.create_user(
            data["email"], actor=actor_of(request), name=data["name"], is_superuser=data["is_superuser"]
        )
        obj.pk = made.pk


class RoleForm(forms.ModelForm):
    abilities = forms.MultipleChoiceField(
        choices=[(name, f"{name}: {text}") for name, text in ABILITIES.items() if name not in SUPER_ADMIN_ONLY],
        widget=forms.CheckboxSelectMultiple,
        required=False,
    )

    class Meta:
        model = Role
        fields = ["name", "label", "abilities"]

    def clean_name(self) -> str:
        if self.cleaned_data["name"] in ROLES:
            raise forms.ValidationError("This is the name of a built-in role.")
        return self.cleaned_data["name"]


@admin.register(Role)
class RoleAdmin(admin.ModelAdmin):
    form = RoleForm
    list_display = ["name", "label"]
    actions = None  # deleting in bulk would pass the service by

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The list under its plain name."""
        return super().changelist_view(request, {"title": "Roles", **(extra_context or {})})

    def get_readonly_fields(self, request: HttpRequest, obj: Role | None = None) -> list[str]:
        return ["name"] if obj else []  # members refer to it

    def save_model(self, request: HttpRequest, obj: Role, form: Any, change: bool) -> None:
        stepup.require(request, "account.changed")
        services.save_role(obj, actor=actor_of(request))

    def delete_model(self, request: HttpRequest, obj: Role) -> None:
        stepup.require(request, "account.changed")
        services.delete_role(obj, actor=actor_of(request))
