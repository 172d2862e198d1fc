"""That a page with something wrong on it is noticed: these tests watch the watchers."""

import pytest
from barriers import barriers


@pytest.fixture
def problems(watched, tmp_path):
    """What is written down about a page with this in its body."""

    def look(body: str) -> list[str]:
        path = tmp_path / "page.html"
        path.write_text(f"<!doctype html><html lang=en><title>x</title><body>{body}</body></html>")
        context = watched()
        context.open(path.as_uri())
        found, context.problems = context.problems, []
        return found

    return look


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<script>console.error('alas')</script>", "console: alas"),
        ("<script>throw new Error('alas')</script>", "alas"),
        ("<img src=missing.png alt=x>", "missing.png"),
        ("<img src=https://example.org/x.png alt=x>", "asks another host: https://example.org/"),
        ("<script>fetch('https://example.org/x').catch(() => 0)</script>", "asks another host"),
    ],
)
def test_is_noticed(problems, body: str, message: str):
    assert [problem for problem in problems(body) if message in problem]


def test_nothing_is_noticed_on_a_good_page(problems):
    assert problems("<h1>Well</h1>") == []


MANY = "<p>Black on white.</p>" * 50


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("<p style='color: #bbb'>pale</p>", "color-contrast"),
        ("<p style='color: #bbb; height: 0; overflow: hidden'>cut off</p>" * 5
         + "<p style='color: #bbb'>and not</p>", "color-contrast"),
        ("<div style='background: #444'><p>dark behind</p></div>", "color-contrast"),
        ("<p style='opacity: .3'>faint</p>", "color-contrast"),
        ("<p><span>Black <i style='color: #999'>and grey</i></span></p>", "color-contrast"),
        ("<p>Black and <a href=x style='text-decoration: none; color: #222'>a link</a> to see</p>",
         "link-in-text-block"),
        ("<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>", "image-alt"),
    ],
)  # fmt: skip
def test_a_barrier_is_found_among_many_alike(watched, tmp_path, body: str, rule: str):
    path = tmp_path / "page.html"

    def look(body: str) -> list[str]:
        path.write_text(f"<!doctype html><html lang=en><title>x</title><main>{body}</main></html>")
        return barriers(watched().open(path.as_uri()))

    assert look(f"<h1>x</h1>{MANY}") == []
    assert [found.partition(":")[0] for found in look(f"<h1>x</h1>{MANY}{body}")] == [rule]
