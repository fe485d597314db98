// The browser's side of a review. It decides nothing by itself: each act goes to the kernel, which writes it to disk and
// answers with what is to be seen next. All text of models is set as textContent, so that none of it can run.

const SLOW = 1500; // ms without an answer after which keys are no longer taken
const TYPING = 200; // ms without a key after which what stands in the search is looked for
const LOST = 6000; // ms without an answer after which the kernel is said to be gone
const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/u;

const FIRST = { // what a newcomer is told, until something is decided
  verdict: "Read the tweet, then keep or reject it. Every decision is saved at once.",
  rating: "Read the tweet, then rate it from 1 to 5. Every decision is saved at once.",
  pairs: "Read both, then say which is better. Every decision is saved at once.",
};

const KEYS = {
  tweets: [
    ["k", "keep", { do: "verdict", value: "keep" }],
    ["r", "reject", { do: "verdict", value: "reject" }],
    ["1–5", "rate (0 clears)"],
    ["t", "tags"],
    ["n", "note"],
    ["u", "undo", { do: "undo" }],
    ["←", "back", { do: "go", value: -1 }],
    ["→", "skip", { do: "go", value: 1 }],
    ["/", "search"],
    ["v", "one / page", { do: "mode" }],
    ["c", "condition", { do: "reveal" }],
  ],
  pairs: [
    ["a", "A is better", { do: "choice", value: "left" }],
    ["b", "B is better", { do: "choice", value: "right" }],
    ["e", "equally good", { do: "choice", value: "tie" }],
    ["n", "note"],
    ["u", "undo", { do: "undo" }],
    ["←", "back", { do: "go", value: -1 }],
    ["→", "skip", { do: "go", value: 1 }],
  ],
};

function make(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// A run of text; characters that cannot be seen get a mark beside them, which is no part of the text.
function writeText(into, text) {
  let run = "";
  const flush = () => { if (run) into.append(run); run = ""; };
  for (const mark of text) {
    if (!INVISIBLE.test(mark)) { run += mark; continue; }
    flush();
    const shown = make("bdi", "invisible", mark);
    shown.dataset.code = "U+" + mark.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    into.append(shown);
  }
  flush();
}

// What a box for tags or a note holds, as it is kept.
function written(what, text) {
  if (what === "note") return text.trim();
  return [...new Set(text.split(/[,，、]/).map((tag) => tag.trim()).filter(Boolean))];
}

function avatar(item, portraits) {
  const source = portraits[item.portrait];
  if (source && source.startsWith("data:image/")) {
    const picture = make("img", "avatar");
    picture.alt = "";
    picture.src = source;
    return picture;
  }
  return make("div", "avatar", (item.persona.match(/[\p{L}\p{N}]/u)?.[0] ?? "?").toUpperCase());
}

function tweet(item, portraits) {
  const shown = make("div", item.limit ? "tweet" : "tweet story");
  const body = make("div", "body");
  const head = make("div", "head");
  head.append(make("bdi", "name", item.persona), make("bdi", item.limit ? "handle" : "heading", item.limit ? item.handle : item.heading));
  if (item.date) head.append(make("span", "date", "· " + item.date));
  const text = make("div", "text");
  text.dir = "auto";
  for (const [kind, part] of item.parts) {
    const into = kind ? make("span", kind) : text;
    writeText(into, part);
    if (kind) text.append(into);
  }
  body.append(head, text);
  if (item.limit) {
    const foot = make("div", "foot");
    const over = item.length > item.limit;
    foot.append(make("span", over ? "length over" : "length", `${item.length} / ${item.limit}`));
    body.append(foot);
  }
  shown.append(avatar(item, portraits), body);
  return shown;
}

function render({ model, el }) {
  const root = make("div", "personalab-review asleep");
  root.tabIndex = 0;
  root.setAttribute("aria-label", "review");
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab takes single keys for itself otherwise
  const bar = make("div", "bar");
  const message = make("div", "message");
  const told = make("span", "told");
  told.setAttribute("role", "status");
  message.append(make("span", "hint", "Click here, then use the keys. "), told);
  const stage = make("div", "stage");
  const keys = make("div", "keys");
  root.append(bar, keys, message, stage); // keys on top, so that they stay in place however long a text is
  const hides = make("style"); // the table for readers without a kernel, while this lives in the same page

  let view = model.get("view");
  let waiting = []; // acts not yet sent: each is made for what is current when its turn comes
  let pending = null; // the act whose answer is awaited
  let timers = [];
  let refused = "";
  let shownAt = performance.now();
  let awake = false; // whether a kernel has ever answered; a saved notebook shows the widget without one
  let editing = null; // {what, value}: the box for tags or a note is open
  let opening = null; // the same, while an answer is awaited: what is typed meanwhile belongs into the box

  const current = () => view.items[view.current];
  const say = (text, bad) => {
    told.textContent = text;
    message.classList.toggle("bad", Boolean(bad));
  };

  function send() {
    if (pending || !waiting.length) return;
    const act = waiting.shift();
    const item = act.item ?? current()?.key ?? "";
    if (!item && !["query", "mode", "undo", "look"].includes(act.do)) return send();
    pending = { ...act, id: newId(), item, seconds: act.seconds ?? (performance.now() - shownAt) / 1000 };
    root.classList.add("saving");
    timers = [
      setTimeout(() => say("waiting for the kernel …"), SLOW),
      setTimeout(lost, LOST),
    ];
    const content = { ...pending };
    pending.sent = performance.now();
    try {
      model.send(content);
    } catch { // the widget has lost its kernel, as after a restart
      lost();
    }
  }

  function lost() {
    const kept = waiting.length;
    waiting = [];
    opening = null;
    timers.forEach(clearTimeout);
    pending.sent = -LOST;
    root.classList.remove("saving");
    if (!awake) return say("No kernel answers for this review: run this cell to go on with it.");
    say("The kernel does not answer: this act is not saved" + (kept ? `, nor the ${kept} after it` : "") +
      ". If it is busy, wait; if it was restarted, run this cell again.", true);
  }

  function act(what) {
    if (pending && performance.now() - pending.sent > SLOW) {
      if (performance.now() - pending.sent > LOST) { pending = null; } // asked again: perhaps it is back
      else return say("not taken: still waiting for the kernel", true);
    }
    waiting.push(what);
    send();
  }

  function wake() {
    awake = true;
    root.classList.remove("asleep");
    hides.textContent = `[data-sitting="${view.sitting}"] { display: none; }`;
  }

  function answered() {
    const before = current()?.key;
    view = model.get("view");
    if (!awake && pending && view.answers === pending.id) wake();
    if (pending && view.answers === pending.id) {
      timers.forEach(clearTimeout);
      pending = null;
      root.classList.remove("saving");
      refused = view.problem && (waiting.length || opening) ? " What was typed after it was not taken." : "";
      if (view.problem) { waiting = []; opening = null; } // it was meant for what would have come next
    }
    if (current()?.key !== before) { shownAt = performance.now(); editing = null; }
    if (!pending && opening && !waiting.length) { editing = opening; opening = null; }
    draw();
    send();
  }

  // ── what is drawn ──

  const progress = make("div", "progress");
  const filled = make("div", "filled");
  progress.append(filled);
  const count = make("span", "count");
  const rater = make("span", "rater");
  const search = make("input", "search");
  search.type = "search";
  search.placeholder = "search  ( / )";
  const show = make("select");
  const sort = make("select");
  const turn = make("span", "turn");
  const tools = make("div", "tools");
  const button = (label, title, does) => {
    const made = make("button", "jupyter-button", label);
    made.type = "button";
    made.title = title;
    made.addEventListener("click", (event) => { event.preventDefault(); does(); root.focus({ preventScroll: true }); });
    return made;
  };
  bar.append(progress, count, rater, tools);

  let typing = null;
  const ask = () => act({ do: "query", item: "", value: {
    search: search.value, show: show.value, sort: sort.value.slice(1) || null, descending: sort.value[0] !== "+",
  } });
  // Once for each text: asked again, it would turn back to the first page under a click.
  function seek() {
    clearTimeout(typing);
    const asked = [pending, ...waiting].findLast((each) => each?.do === "query");
    if (search.value !== (asked?.value ?? view.query).search) ask();
  }
  search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(seek, TYPING); });
  search.addEventListener("change", seek);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "Escape") {
      event.preventDefault();
      if (event.key === "Escape") { search.value = ""; seek(); }
      root.focus({ preventScroll: true });
    }
  });
  for (const choice of [show, sort]) {
    choice.addEventListener("change", () => { ask(); root.focus({ preventScroll: true }); });
  }

  function option(into, value, label) {
    const made = make("option", "", label);
    made.value = value;
    into.append(made);
  }

  function drawBar() {
    const share = view.count ? (100 * view.done) / view.count : 0;
    filled.style.width = `${share}%`;
    count.textContent = `${view.done} of ${view.count} decided` +
      (view.seconds_left != null && view.done < view.count ? ` · about ${duration(view.seconds_left)} left` : "");
    rater.textContent = `rater: ${view.rater}`;
    if (view.kind !== "tweets") return;
    if (!tools.childElementCount) {
      for (const name of view.shows) option(show, name, name === "all" ? "show all" : name);
      option(sort, " ", "order of the review");
      for (const name of view.sorts) {
        option(sort, "-" + name, `${name.replaceAll("_", " ")} ↓`);
        option(sort, "+" + name, `${name.replaceAll("_", " ")} ↑`);
      }
      tools.append(search, show, sort, turn);
    }
    if (document.activeElement !== search) search.value = view.query.search;
    show.value = view.query.show;
    sort.value = view.query.sort ? (view.query.descending ? "-" : "+") + view.query.sort : " ";
    turn.replaceChildren();
    if (view.mode === "page" && view.found > view.items.length) {
      const end = view.first + view.items.length;
      turn.append(button("‹", "earlier page: page up", () => act({ do: "page", value: -1 })),
        make("span", "", ` ${view.first + 1}–${end} of ${view.found} `),
        button("›", "next page: page down", () => act({ do: "page", value: 1 })));
    } else {
      turn.textContent = view.found ? `${view.first + 1} of ${view.found}` : "";
    }
  }

  function facts(rows, name) {
    const list = make("dl", name);
    for (const [label, value] of rows) {
      list.append(make("dt", "", label), make("dd", "", value));
    }
    return list;
  }

  function marks(item) {
    const row = make("div", "marks");
    if (item.verdict) row.append(make("span", `verdict ${item.verdict}`, item.verdict === "keep" ? "✓ kept" : "✗ rejected"));
    if (item.rating) row.append(make("span", "rating", "★".repeat(item.rating) + "☆".repeat(5 - item.rating)));
    for (const tag of item.tags ?? []) row.append(make("bdi", "tag", tag));
    if (item.note) row.append(make("bdi", "note", item.note));
    if (item.copy) row.append(make("span", "copy", `near copy ${item.copy[0]} of ${item.copy[1]}`));
    return row;
  }

  function card(item, place, portraits) {
    const whole = make("div", "item");
    whole.dataset.key = item.key;
    const left = make("div", "left");
    left.append(tweet(item, portraits), marks(item));
    const from = make("div", "from");
    from.append(facts([...item.sorted, ...item.from], ""));
    if (item.condition) from.append(facts(item.condition.length ? item.condition : [["condition", "none"]], "condition"));
    whole.append(left, from);
    if (place === view.current) {
      whole.classList.add("current");
      if (editing) left.append(box(item));
    } else {
      whole.addEventListener("click", () => act({ do: "look", item: item.key }));
    }
    return whole;
  }

  function box(item) {
    const what = editing.what;
    const shown = make("div", "box");
    const input = make(what === "tags" ? "input" : "textarea");
    input.placeholder = what === "tags" ? "tags, with commas between; enter saves, escape leaves" : "a note; enter saves, escape leaves";
    input.value = editing.value ?? (what === "tags" ? (item.tags ?? []).join(", ") : item.note);
    input.addEventListener("input", () => { editing.value = input.value; });
    input.addEventListener("keydown", (event) => {
      if (event.isComposing || (event.key !== "Escape" && (event.key !== "Enter" || event.shiftKey))) return;
      event.preventDefault();
      editing = null;
      if (event.key === "Enter") {
        act({ do: what, item: item.key, value: written(what, input.value) });
      }
      draw();
      root.focus({ preventScroll: true });
    });
    shown.append(input);
    queueMicrotask(() => { if (editing) input.focus({ preventScroll: true }); });
    return shown;
  }

  function side(texts, label, portraits) {
    const column = make("div", "side");
    column.append(make("h4", "", label));
    for (const item of texts) column.append(tweet(item, portraits));
    return column;
  }

  function drawPair(item, portraits) {
    const whole = make("div", "item current pair");
    whole.dataset.key = item.key;
    const sides = make("div", "sides");
    sides.append(side(item.left, "A", portraits), side(item.right, "B", portraits));
    const row = make("div", "marks");
    const said = { left: "A is better", right: "B is better", tie: "equally good" }[item.choice];
    if (said) row.append(make("span", "verdict keep", said));
    if (item.note) row.append(make("bdi", "note", item.note));
    whole.append(sides, row);
    if (editing) whole.append(box(item));
    return whole;
  }

  function draw() {
    const portraits = model.get("portraits");
    drawBar();
    if (view.problem) say(view.problem + refused, true);
    else if (view.told) say(view.told);
    else if (!pending) say(view.done ? "" : FIRST[view.ask ?? view.kind]);
    if (!view.items.length) {
      stage.replaceChildren(make("p", "nothing", "Nothing is found: change the search or what is shown."));
    } else {
      const shown = view.items.map((item, place) =>
        view.kind === "pairs" ? drawPair(item, portraits) : card(item, place, portraits));
      stage.replaceChildren(...shown);
      stage.classList.toggle("page", view.mode === "page");
      if (view.mode === "page") {
        const at = shown[view.current];
        const top = at.offsetTop - stage.offsetTop;
        if (top < stage.scrollTop || top + at.offsetHeight > stage.scrollTop + stage.clientHeight) {
          stage.scrollTop = Math.max(0, top - stage.clientHeight / 3);
        }
      }
    }
    markMore();
  }

  function drawKeys() {
    for (const [key, label, does] of KEYS[view.kind]) {
      if (key === "c" && !view.blinding) continue;
      const made = button("", label, () => {
        if (does) act({ ...does });
        else if (key === "t") edit("tags");
        else if (key === "n") edit("note");
        else if (key === "/") queueMicrotask(() => search.focus());
      });
      if (key === "1–5") {
        const stars = make("span", "stars");
        for (const rating of [1, 2, 3, 4, 5]) {
          const star = button("", `rate ${rating}`, () => act({ do: "rating", value: current()?.rating === rating ? null : rating }));
          star.append(make("kbd", "", String(rating)));
          stars.append(star);
        }
        stars.append(make("span", "", " " + label));
        keys.append(stars);
        continue;
      }
      made.append(make("kbd", "", key), " " + label);
      keys.append(made);
    }
    more.append(make("kbd", "", "space"), " more");
    keys.append(more);
  }

  // Long texts scroll in themselves, those beside each other together.
  const scrolled = () => [...stage.querySelectorAll(".current .side, .current .text")];
  const more = button("", "more of the text", () => scroll(1));
  function scroll(step) {
    for (const box of scrolled()) box.scrollTop += step * 0.8 * box.clientHeight;
  }
  function markMore() {
    const boxes = scrolled();
    for (const box of boxes) box.classList.toggle("more", box.scrollTop + box.clientHeight < box.scrollHeight - 4);
    more.style.visibility = boxes.some((box) => box.scrollHeight > box.clientHeight + 4) ? "" : "hidden";
  }
  stage.addEventListener("scroll", markMore, true);

  function edit(what) {
    if (!current()) return;
    if (pending) { opening = { what }; return; }
    editing = { what };
    draw();
  }

  // ── keys ──

  root.addEventListener("keydown", (event) => {
    const target = event.target;
    if (target !== root && ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName)) {
      event.stopPropagation();
      return;
    }
    if (event.altKey || event.ctrlKey || event.metaKey || event.isComposing) return;
    // What is typed here is for the review, also where it means nothing: a notebook would cut cells by "x" or "dd".
    if (!/^(Tab|Escape|F\d+)$/.test(event.key)) event.stopPropagation();
    if (opening) {
      event.preventDefault();
      const typed = opening.value ?? "";
      if (event.key.length === 1) opening.value = typed + event.key;
      else if (event.key === "Backspace") opening.value = Array.from(typed).slice(0, -1).join("");
      else if (event.key === "Escape") opening = null;
      else if (event.key === "Enter") {
        const { what } = opening;
        opening = null;
        if (typed) act({ do: what, value: written(what, typed) });
      }
      return;
    }
    // A keyboard of another script is read by the places of its keys.
    const pressed = /^[^\0-\x7f]$/u.test(event.key) ? event.code.replace(/^(Key|Digit)/, "") : event.key;
    const key = pressed.length === 1 ? pressed.toLowerCase() : pressed;
    const named = { ArrowLeft: "←", ArrowUp: "←", ArrowRight: "→", ArrowDown: "→" }[key] ?? key;
    const found = KEYS[view.kind].find((each) => each[0] === named);
    const paging = { PageUp: -1, PageDown: 1 }[key];
    if (key === "Escape") return root.blur();
    if (key === " " && target === root) {
      event.preventDefault();
      return scroll(event.shiftKey ? -1 : 1);
    }
    if (!found && !(view.kind === "tweets" && (/^[0-5]$/.test(key) || (paging && view.mode === "page")))) return;
    event.preventDefault();
    if (event.repeat && !["←", "→"].includes(named)) return; // a key that is held is one decision
    if (named === "t") return edit("tags");
    if (named === "n") return edit("note");
    if (named === "/") { search.focus(); return search.select(); }
    if (paging && view.mode === "page") return act({ do: "page", value: paging });
    if (/^[0-5]$/.test(key) && !found) return act({ do: "rating", value: Number(key) || null });
    act({ ...found[2] });
  });
  root.addEventListener("focusin", () => root.classList.add("focused"));
  root.addEventListener("focusout", (event) => {
    if (!root.contains(event.relatedTarget)) root.classList.remove("focused");
  });

  model.on("change:view", answered);
  model.on("change:portraits", draw);
  drawKeys();
  draw();
  el.append(hides, root);
  act({ do: "look" });
  return () => {
    model.off("change:view", answered);
    model.off("change:portraits", draw);
    clearTimeout(typing);
    timers.forEach(clearTimeout);
  };
}
export default { render };
