"""The data of a figure as CSV: what is in it, and that it is what is drawn."""

import csv

import numpy as np
import pytest

plotted = pytest.importorskip("recdrop.plotted", reason="figures need matplotlib")
from recdrop import figures  # noqa: E402
from recdrop.drawing import panels, save, show  # noqa: E402


def rows(figure) -> list[dict]:
    return list(csv.DictReader(plotted.as_csv(figure).splitlines()))


def panel(**labels):
    figure, ((ax,),) = panels()
    ax.set(**labels)
    return figure, ax


def test_lines_are_their_points_and_axes_name_the_columns():
    figure, ax = panel(title="train", xlabel="epoch", ylabel="accuracy")
    ax.plot([1, 2], [0.25, None], label="own")
    assert rows(figure) == [
        {"panel": "train", "series": "own", "epoch": "1", "accuracy": "0.25"},
        {"panel": "train", "series": "own", "epoch": "2", "accuracy": ""},
    ]


def test_panels_of_different_axes_have_neutral_columns():
    figure, ((left, right),) = panels(1, 2)
    left.set(xlabel="H", ylabel="ms")
    right.set(xlabel="T", ylabel="s")
    left.plot([1], [2])
    right.plot([3], [4])
    assert rows(figure) == [
        {"panel": "H", "series": "", "x": "1", "y": "2"},
        {"panel": "T", "series": "", "x": "3", "y": "4"},
    ]


def test_a_shared_axis_is_named_once():
    figure, ((left, right),) = panels(1, 2, sharey=True)
    left.set(ylabel="ms")
    right.plot([3], [4])
    assert "ms" in rows(figure)[0]


@pytest.mark.parametrize("horizontal", [True, False])
def test_intervals_of_points(horizontal):
    figure, ax = panel()
    errors = {"xerr" if horizontal else "yerr": [[0.5, 0.25], [1, np.nan]]}
    ax.errorbar([1, 2], [3, 4], fmt="o", capsize=2, label="a", **errors)
    first, second = rows(figure)
    middle = 1 if horizontal else 3
    assert (float(first["low"]), float(first["high"])) == (middle - 0.5, middle + 1)
    assert (second["x"], second["y"], second["high"]) == ("2", "4", "")


@pytest.mark.parametrize("horizontal", [True, False])
def test_bars_with_and_without_intervals(horizontal):
    figure, ax = panel()
    if horizontal:
        ax.barh([0, 1], [5, 6], xerr=[[1, 2], [3, 4]], label="a")
    else:
        ax.bar([0, 1], [5, 6], yerr=[[1, 2], [3, 4]], label="a")
    ax.bar([7], [8])
    across, along = ("y", "x") if horizontal else ("x", "y")
    one, two, plain = rows(figure)
    assert (one[across], one[along], one["low"], one["high"]) == ("0", "5", "4", "8")
    assert (two[across], two[along], two["low"], two["high"]) == ("1", "6", "4", "10")
    assert (plain["x"], plain["y"], plain["low"]) == ("7", "8", "")


def test_a_band_is_the_interval_of_the_line_of_its_name():
    figure, ax = panel()
    ax.plot([0, 1, 2], [1, 2, 3], label="a")
    ax.plot([0, 1, 2], [1, 2, 3], label="b")
    ax.fill_between([0, 1, 2], [0, 1.5, 2], [2, 2.5, 5], label="a")
    ends = [(row["low"], row["high"]) for row in rows(figure)]
    assert ends == [("0", "2"), ("1.5", "2.5"), ("2", "5")] + [("", "")] * 3


def test_a_heat_map_is_a_line_for_each_row():
    figure, ((ax,),) = panels()
    ax.set(title="cells", xlabel="step", ylabel="unit")
    picture = ax.imshow([[1, 2, 3], [4, 5, 6.5]])
    figure.colorbar(picture)
    assert plotted.as_csv(figure) == (
        "panel,unit,step 0,step 1,step 2\ncells,0,1,2,3\ncells,1,4,5,6.5\n"
    )


def test_a_heat_map_tells_its_labels_where_each_row_has_one():
    figure, ax = panel()
    ax.set(xlabel="rate", ylabel="symbols", title="cells")
    ax.imshow([[1, 2], [3, 4]])
    ax.set_xticks([0, 1], ["0.1", "0.25"])
    ax.set_yticks([1], ["30"])
    assert plotted.as_csv(figure) == "panel,symbols,rate 0.1,rate 0.25\ncells,0,1,2\ncells,1,3,4\n"


def test_labels_that_panels_do_not_share_are_not_told():
    figure, axes = panels(1, 2)
    for ax, rates in zip(axes[0], (["0.1", "0.2"], ["0.3", "0.4"]), strict=True):
        ax.imshow([[1, 2]])
        ax.set_xticks([0, 1], rates)
    assert plotted.as_csv(figure).startswith("panel,y,x 0,x 1\n")


def test_names_stand_for_places_and_numbers_for_themselves():
    figure, ax = panel()
    ax.set_xticks([0, 1], ["own:\non the update", "Gal"])
    ax.set_yticks([0.25, 4], ["0.25", "4"])
    ax.plot([0.18, 0.8], [0.3, 3])
    assert [(row["x"], row["y"]) for row in rows(figure)] == [
        ("own: on the update", "0.3"),
        ("Gal", "3"),
    ]


def test_guides_and_diagrams_are_no_data(tmp_path):
    figure, ax = panel()
    ax.axhline(0.25)
    ax.axvline(0.5)
    assert plotted.as_csv(figure) == plotted.as_csv(figures.schemes()) == ""
    assert "text/csv" not in show(figure)._repr_mimebundle_()
    save(figure, tmp_path / "a.svg")
    assert not (tmp_path / "a.csv").exists()


def test_heat_maps_beside_lines_are_refused():
    figure, ((left, right),) = panels(1, 2)
    left.imshow([[1]])
    right.plot([1], [2])
    with pytest.raises(ValueError, match="no one table"):
        plotted.as_csv(figure)


def test_a_figure_is_shown_and_saved_with_its_data(tmp_path):
    bundle = show(figures.fading())._repr_mimebundle_()
    save(figures.fading(), tmp_path / "fading.svg")
    assert list(bundle) == ["image/svg+xml", "text/csv"]
    assert bundle["text/csv"] == (tmp_path / "fading.csv").read_text()
    assert bundle["text/csv"].startswith("panel,series,steps since the memory was written,")


@pytest.mark.parametrize("draw", [figures.effect, figures.fading, figures.other_cells])
def test_every_point_of_the_books_figures_is_in_their_data(draw):
    figure = draw()
    drawn = [float(y) for ax in figure.axes for line in ax.lines
             if line.get_transform() is ax.transData for y in line.get_ydata()]  # fmt: skip
    drawn += [bar.get_height() for ax in figure.axes for bar in ax.patches]
    last = [float(line.rpartition(",")[2]) for line in plotted.as_csv(figure).splitlines()[1:]]
    assert sorted(last) == pytest.approx(sorted(drawn), rel=1e-5)
