"""Widgets for JupyterLab. Importing this module loads ipywidgets; all they think is in other modules.

Arrow keys need JavaScript: JupyterLab takes them to move between cells, unless an element says that it wants them itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import traitlets
from anywidget import AnyWidget

from personalab.experiments import Experiment
from personalab.side_by_side import Pages

_ESM = """
function render({ model, el }) {
  const root = document.createElement("div");
  root.tabIndex = 0;
  root.dataset.lmSuppressShortcuts = "true";
  const bar = document.createElement("div");
  const page = document.createElement("div");
  const go = (step) => {
    const wanted = model.get("position") + step;
    if (wanted < 0 || wanted >= model.get("count")) return;
    model.set("position", wanted);
    model.save_changes();
  };
  const button = (label, title, step) => {
    const made = document.createElement("button");
    made.textContent = label;
    made.title = title;
    made.className = "jupyter-button";
    made.addEventListener("click", () => go(step));
    bar.append(made, " ");
  };
  button("← previous", "left arrow", -1);
  button("next →", "right arrow", 1);
  bar.append("click here, then ← and → turn the pages");
  root.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.key.length === 1) event.stopPropagation(); // no notebook's command, as "dd" would be
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) {
      event.preventDefault();
      event.stopPropagation();
      go(step);
    } else if (event.key === "Escape") {
      document.activeElement.blur();
    }
  });
  const draw = () => {
    const open = [...page.querySelectorAll("details")].map((each) => each.open);
    page.innerHTML = model.get("page");
    page.querySelectorAll("details").forEach((each, place) => { if (place in open) each.open = open[place]; });
  };
  model.on("change:page", draw);
  draw();
  root.append(bar, page);
  el.append(root);
  return () => model.off("change:page", draw);
}
export default { render };
"""

_CSS = """
/* VS Code draws widgets on white in every theme, with the theme's own colour of text. */
.cell-output-ipywidget-background:has(.personalab-sides) { background: transparent !important; }
"""


class SideBySide(AnyWidget):
    """Pages to turn with the arrow keys or two buttons. `position` counts from 0 and may be set."""

    _esm = _ESM
    _css = _CSS
    page = traitlets.Unicode().tag(sync=True)
    position = traitlets.Int(0).tag(sync=True)
    count = traitlets.Int(1).tag(sync=True)

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        super().__init__(count=len(pages.places), page=pages.html(0))

    @traitlets.validate("position")
    def _within(self, proposal: dict[str, Any]) -> int:
        return max(0, min(int(proposal["value"]), self.count - 1))

    @traitlets.observe("position")
    def _turned(self, change: dict[str, Any]) -> None:
        self.page = self.pages.html(change["new"])

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """With the page as it is, for viewers that run no widgets."""
        data, metadata = super()._repr_mimebundle_(**options) or ({}, {})
        return {**data, "text/html": self.page}, metadata


def side_by_side(
    experiment: Experiment, conditions: Sequence[str] = (), stage: str | None = None
) -> SideBySide:
    """The same stage of the same image under two to four conditions, page by page, words that differ marked.

    `stage` is the first under study unless it is given; `conditions` may be left out where there are no more than four.

    Raises:
        ConfigError: unknown condition or stage, too few or too many, or nothing has run.
    """
    return SideBySide(Pages.of(experiment, conditions, stage))
