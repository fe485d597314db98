// The browser's side of a chat. It decides nothing: what is typed goes to the kernel, which answers with the whole view. All
// text of models is set as textContent, so that none of it can run.

function make(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

function render({ model, el }) {
  const root = make("div", "personalab-chat");
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab leaves the keys to us
  const lines = make("div", "lines");
  const problem = make("div", "problem");
  const field = make("textarea");
  field.rows = 2;
  const bar = make("div", "bar");
  const act = (content) => model.send(content);
  const say = () => {
    if (!field.value.trim() || model.get("view").waiting) return;
    act({ do: "say", value: field.value });
  };
  const button = (label, title, action) => {
    const made = make("button", "jupyter-button", label);
    made.title = title;
    made.addEventListener("click", action);
    bar.append(made, " ");
    return made;
  };
  const send = button("say", "Enter", say);
  const again = button("again", "another answer to what was said last", () => act({ do: "again" }));
  const undo = button("undo", "take the last turn back", () => act({ do: "undo" }));
  const stop = button("stop", "cancel the answer that is awaited", () => act({ do: "stop" }));
  const saved = make("span", "dim");
  bar.append(saved);
  field.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      say();
    } else if (event.key === "Escape") {
      field.blur();
    }
  });

  const draw = () => {
    const view = model.get("view");
    lines.replaceChildren(...view.lines.map((line) => {
      const row = make("div", line.own ? "line own" : "line");
      row.append(make("b", "", line.name), make("div", "text", line.text));
      if (line.lore) row.append(make("div", "dim", `lore: ${line.lore}`));
      return row;
    }));
    if (view.waiting) lines.append(make("div", "dim", `${view.name} is writing …`));
    lines.append(make("div", "dim", view.notice));
    lines.scrollTop = lines.scrollHeight;
    problem.textContent = view.problem;
    field.placeholder = `Say something to ${view.name}. Enter sends, Shift+Enter begins a line.`;
    saved.textContent = view.saved;
    send.disabled = view.waiting;
    again.disabled = undo.disabled = view.waiting || view.turns === 0;
    stop.disabled = !view.waiting;
    if (view.heard && view.heard === field.value.trim()) field.value = "";
  };

  model.on("change:view", draw);
  draw();
  root.append(lines, problem, field, bar);
  el.append(root);
  return () => model.off("change:view", draw);
}
export default { render };
