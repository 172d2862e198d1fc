"""The chapters in JupyterLab, as `make lab` opens them."""


def test_a_chapter_runs_from_top_to_bottom(lab):
    page = lab.open_notebook("01_recurrent_dropout.ipynb")
    lab.run_all()
    assert page.locator(".jp-OutputArea-output img").count() >= 3
