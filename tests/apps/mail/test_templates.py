"""Templates: escaping, missing variables, links, and the text that is made from HTML."""

from __future__ import annotations

import pytest

from muskox.apps.mail.catalogue import SHIPPED, shipped_templates
from muskox.apps.mail.errors import RenderError, TemplateUnknown
from muskox.apps.mail.plain import text_from_html
from muskox.apps.mail.templates import MailTemplate

SAMPLES = [(template.name, case) for template in SHIPPED for case in template.samples]


@pytest.mark.parametrize(("name", "case"), SAMPLES)
def test_every_sample_renders(name, case):
    templates = shipped_templates()

    rendered = templates.render(name, templates.get(name).samples[case])

    assert rendered.subject
    assert "{{" not in rendered.html + rendered.text
    assert rendered.html.startswith("<!doctype html>")


def test_case_e18_what_a_user_typed_is_escaped_in_html_and_literal_in_text():
    name = '<script>alert(1)</script>&"'
    context = {"product": "Muskox", "home_url": "https://x.example/", "name": name, "email": "a@example.org"}

    rendered = shipped_templates().render("welcome", context)

    assert "&lt;script&gt;" in rendered.html
    assert "<script" not in rendered.html
    assert name in rendered.text
    assert name in rendered.subject


def test_case_e19_a_missing_variable_is_named():
    with pytest.raises(RenderError, match="'email' is undefined"):
        shipped_templates().render("welcome", {"product": "M", "home_url": "https://x.example", "name": "Ada"})


def test_an_unknown_template_names_the_known_ones():
    with pytest.raises(TemplateUnknown, match="password-reset"):
        shipped_templates().render("nothing", {})


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "//evil.example", "java\nscript:x", ""])
def test_security_s25_a_link_must_be_a_web_or_mail_address(url):
    context = {"product": "M", "home_url": url, "name": "Ada", "email": "a@example.org"}

    with pytest.raises(RenderError):
        shipped_templates().render("welcome", context)


@pytest.mark.parametrize(
    "source",
    ["{{ ''.__class__.__mro__ }}", "{{ name.__init__.__globals__ }}", "{% for i in range(10000000) %}x{% endfor %}"],
)
def test_security_s25_templates_are_kept_in_a_sandbox(tmp_path, source):
    (tmp_path / "trial.html").write_text(source)
    templates = shipped_templates(tmp_path, more=(MailTemplate("trial", "x"),))

    with pytest.raises(RenderError):
        templates.render("trial", {"name": "Ada"})


@pytest.mark.parametrize("value", ["{{ 7 * 7 }}", "{% raw %}", "{{ config }}"])
def test_security_s25_a_value_never_becomes_a_template(value):
    context = {"product": "M", "home_url": "https://x.example", "name": value, "email": "a@example.org"}

    assert value in shipped_templates().render("welcome", context).text


def test_text_is_made_from_html_where_there_is_none(tmp_path):
    (tmp_path / "note.html").write_text('<p>Hello {{ name }}</p><a href="https://x.example/">Look</a>')
    templates = shipped_templates(tmp_path, more=(MailTemplate("note", "Note"),))

    assert templates.render("note", {"name": "A & B"}).text == "Hello A & B\n\nLook (https://x.example/)\n"


def test_hidden_and_silent_parts_are_not_read_out():
    html = '<head><title>t</title></head><div style="display: none">x<br><b>y</b></div><ul><li>one<li>two</ul>'

    assert text_from_html(html) == "- one\n- two\n"
