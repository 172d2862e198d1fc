"""A hand on a widget: moves it as a reader does, and reads what it has drawn."""


class Driven:
    """A widget on a page: ``shown(path)`` is what it has drawn, ``control(key)`` a control."""

    def __init__(self, page, name: str):
        self.page = page
        self.root = page.locator(f".rd-{name}").first
        self.root.wait_for()
        page.wait_for_function("(root) => root.dataset.drawn", arg=self.root.element_handle())

    def shown(self, path: str):
        return self.root.evaluate(f"(root) => root.recdrop.shown.{path}")

    def control(self, key: str):
        return self.root.locator(f"[data-control='{key}']")

    def moves(self, action) -> None:
        """Do something and wait until the widget has been drawn anew."""
        before = self.root.get_attribute("data-drawn")
        action()
        self.page.wait_for_function(
            "([root, before]) => root.dataset.drawn !== before",
            arg=[self.root.element_handle(), before],
        )

    def option(self, key: str, label: str):
        """One of a control's radio buttons, as its label names it."""
        return self.control(key).get_by_role("radio", name=label, exact=True)

    def pick(self, key: str, label: str) -> None:
        """Click one of a control's options."""
        self.moves(self.option(key, label).click)

    def press(self, key: str, *names: str) -> None:
        """Press keys on a control, each drawn before the next."""
        inputs = self.control(key).locator("input")
        target = inputs.locator("visible=true")
        (target if target.count() == 1 else self.control(key).locator("input:checked")).focus()
        for name in names:
            self.moves(lambda name=name: self.page.keyboard.press(name))

    def counted(self) -> tuple[int, int]:
        """Hits and number of the test sequences, once all have been counted."""
        self.page.wait_for_function(
            "(root) => { const c = root.recdrop.count(); return c && c.n === c.rows; }",
            arg=self.root.element_handle(),
        )
        hits, n = self.root.get_attribute("data-accuracy").split("/")
        return int(hits), int(n)
