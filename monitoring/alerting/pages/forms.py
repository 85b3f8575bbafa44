"""The forms of the alerts' pages. What is valid is the service's word."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from monitoring.alerting.metrics import Scope, known
from monitoring.alerting.models import AlertRule, Comparison, Severity
from monitoring.alerting.services import SHORTEST_REPEAT_S

MINUTE = 60
SPANS = {
    "1h": (gettext_lazy("1 hour"), timedelta(hours=1)),
    "4h": (gettext_lazy("4 hours"), timedelta(hours=4)),
    "1d": (gettext_lazy("1 day"), timedelta(days=1)),
    "7d": (gettext_lazy("7 days"), timedelta(days=7)),
    "30d": (gettext_lazy("30 days"), timedelta(days=30) - timedelta(minutes=1)),
}
"""For how long a silence can be asked for; a minute less than the longest, so that it is not over it on arrival."""


SEVERITIES = [(Severity.WARNING, gettext_lazy("warning")), (Severity.CRITICAL, gettext_lazy("critical"))]


class SilenceForm(forms.Form):
    rule = forms.ChoiceField(required=False, label=gettext_lazy("About"))
    span = forms.ChoiceField(choices=[(name, label) for name, (label, _span) in SPANS.items()])
    note = forms.CharField(
        required=False,
        max_length=200,
        label=gettext_lazy("Note"),
        help_text=gettext_lazy("Why; those who look at the list read it."),
    )

    def __init__(self, *args: Any, rules: list[AlertRule], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", _("All alerts of this tenant")), *((str(rule.public_id), rule.name) for rule in rules)]
        self.fields["rule"].choices = choices  # type: ignore[attr-defined]
        self.fields["span"].label = _("For how long")
        self.rules = {str(rule.public_id): rule for rule in rules}

    def asked(self) -> tuple[AlertRule | None, timedelta, str]:
        """The rule, if it is about one, the span, and the note."""
        data = self.cleaned_data
        return self.rules.get(data["rule"]), SPANS[data["span"]][1], data["note"]


class RuleForm(forms.Form):
    """A tenant's own rule; times in minutes, as people say them."""

    name = forms.CharField(max_length=120, label=gettext_lazy("Name"))
    metric = forms.ChoiceField(label=gettext_lazy("What is looked at"))
    comparison = forms.ChoiceField(choices=Comparison.choices, label=gettext_lazy("Fires when it is"))
    threshold = forms.FloatField(label=gettext_lazy("Threshold"))
    hold_min = forms.IntegerField(
        min_value=0,
        max_value=7 * 24 * 60,
        initial=5,
        label=gettext_lazy("For how many minutes"),
        help_text=gettext_lazy("0: at once. The rules are looked at every minute."),
    )
    severity = forms.ChoiceField(choices=SEVERITIES, label=gettext_lazy("Severity"))
    repeat_min = forms.IntegerField(
        min_value=0,
        max_value=7 * 24 * 60,
        initial=240,
        label=gettext_lazy("Told again after minutes"),
        help_text=gettext_lazy("As long as it fires; 5 at least. 0: told once."),
    )
    enabled = forms.BooleanField(required=False, initial=True, label=gettext_lazy("In use"))

    def __init__(self, data: Any, rule: AlertRule | None = None) -> None:
        super().__init__(data, initial=_initial(rule) if rule else None)
        metrics = [(m.name, f"{m.label} ({m.unit})") for m in known() if m.scope == Scope.TENANT]
        self.fields["metric"].choices = metrics  # type: ignore[attr-defined]

    def clean_repeat_min(self) -> int:
        minutes: int = self.cleaned_data["repeat_min"]
        if 0 < minutes < SHORTEST_REPEAT_S // MINUTE:
            raise forms.ValidationError(_("0, or at least %(least)s.") % {"least": SHORTEST_REPEAT_S // MINUTE})
        return minutes

    def values(self, *, changed: bool = False) -> dict[str, Any]:
        """As the services take them; with ``changed`` those alone that are not as they were."""
        names = self.changed_data if changed else list(self.fields)
        return dict(_stored(name, self.cleaned_data[name]) for name in names)


def _initial(rule: AlertRule) -> dict[str, Any]:
    plain = ("name", "metric", "comparison", "threshold", "severity", "enabled")
    minutes = {"hold_min": rule.hold_s // MINUTE, "repeat_min": rule.repeat_s // MINUTE}
    return {**{name: getattr(rule, name) for name in plain}, **minutes}


def _stored(name: str, value: Any) -> tuple[str, Any]:
    return (f"{name.removesuffix('_min')}_s", value * MINUTE) if name.endswith("_min") else (name, value)
