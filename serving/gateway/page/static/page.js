"use strict";
// The page is whole without this script: it only shows the answers to forms and links without loading the page anew,
// takes pictures that are dropped or pasted, and knows a few keys. What it puts into the page, the server has escaped.
(() => {
  document.documentElement.dataset.script = "";
  const TYPING_MS = 300;
  const find = (selector) => document.querySelector(selector);
  let running = null; // what is being loaded
  let given = null; // the last picture, to give again where the server does not keep it any more
  let typing = 0;
  let shown = location.search; // what the results are of

  const tell = (text) => {
    const problem = find("#problem");
    if (!problem) return;
    problem.textContent = text;
    problem.hidden = !text;
  };

  const busy = (value) => find("#results")?.setAttribute("aria-busy", String(value));

  // How: "push" a new state, "replace" the one of the last letter, or "" where the browser has gone to it already.
  async function show(address, how, { form = false, focus = false } = {}) {
    running?.abort();
    const mine = (running = new AbortController());
    busy(true);
    try {
      const answer = await fetch(address, { signal: mine.signal, headers: { Accept: "text/html" } });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const results = page.querySelector("#results");
      if (!results) throw new Error(`answered ${answer.status}`);
      if (answer.status === 410 && given && (await giveAgain(address))) return;
      put(page, results, form);
      shown = new URL(address, location.href).search;
      if (how === "push") history.pushState(null, "", address);
      if (how === "replace") history.replaceState(null, "", address);
      tell("");
      if (focus) find("#results").focus({ preventScroll: true });
      if (focus) scrollTo({ top: 0 });
    } catch (error) {
      if (error.name === "AbortError") return;
      tell("The server does not answer. What you asked for is kept: try again in a moment.");
    } finally {
      if (running === mine) {
        running = null;
        busy(false);
      }
    }
  }

  function put(page, results, form) {
    find("#results").replaceWith(document.adoptNode(results));
    for (const id of form ? ["#ask", "#model"] : ["#model"]) {
      const fresh = page.querySelector(id);
      if (fresh && find(id)) find(id).replaceWith(document.adoptNode(fresh));
    }
    document.title = page.title;
    // Only now, so that it is read out after what it speaks of is there.
    find("#status").textContent = results.dataset.status || "";
  }

  function addressOf(form) {
    const fields = new URLSearchParams();
    for (const [name, value] of new FormData(form)) {
      if (typeof value === "string" && value.trim() !== "") fields.append(name, value);
    }
    const query = fields.toString();
    return query ? `./?${query}` : "./";
  }

  async function sendPicture(file) {
    const body = new FormData();
    body.append("picture", file, file.name || "pasted.png");
    const answer = await fetch(find("#given").getAttribute("action"), { method: "POST", body, headers: { Accept: "application/json" } });
    const told = await answer.json();
    if (!answer.ok) throw new Refusal(told.error);
    return told.picture;
  }

  class Refusal extends Error {}

  async function searchByPicture(file) {
    const mayBe = !file.type || file.type.startsWith("image/");
    if (!mayBe) return tell(`${file.name || "What you gave"} is no picture (${file.type}).`);
    busy(true);
    try {
      const picture = await sendPicture(file);
      given = file;
      const address = new URLSearchParams(new FormData(find("#search")));
      // A new picture is a new search: neither the words nor the examples of the last one are meant.
      for (const name of ["q", "like", "unlike", "picture"]) address.delete(name);
      for (const [name, value] of [...address]) if (!value.trim()) address.delete(name, value);
      address.set("picture", picture);
      await show(`./?${address}`, "push", { form: true, focus: true });
    } catch (error) {
      const reason = error instanceof Refusal ? error.message : "the server does not answer: try again in a moment";
      tell(`${file.name || "The picture"}: ${reason}`);
    } finally {
      busy(false);
    }
    return undefined;
  }

  async function giveAgain(address) {
    const file = given;
    given = null;
    try {
      const fields = new URLSearchParams(address.slice(address.indexOf("?") + 1));
      fields.set("picture", await sendPicture(file));
      given = file;
      await show(`./?${fields}`, "push", { form: true });
      return true;
    } catch {
      return false;
    }
  }

  const pictureIn = (data) => [...(data?.files ?? [])][0];
  const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.id === "search" || form.matches("[data-show]")) {
      event.preventDefault();
      clearTimeout(typing);
      show(addressOf(form), "push", { focus: form.id !== "search" });
    }
  });

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-show]");
    if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    if (!find("#search")) return;
    event.preventDefault();
    show(link.getAttribute("href"), "push", { form: link.dataset.show === "form", focus: true });
  });

  document.addEventListener("input", (event) => {
    if (event.target.id !== "q") return;
    clearTimeout(typing);
    typing = setTimeout(() => show(addressOf(event.target.form), "replace"), TYPING_MS);
  });

  document.addEventListener("change", (event) => {
    const field = event.target;
    if (field.matches("[data-goes]")) field.form.submit();
    else if (field.id === "file" && field.files[0]) {
      searchByPicture(field.files[0]);
      field.value = "";
    } else if (field.closest(".fields")) show(addressOf(field.form), "push");
  });

  document.addEventListener("paste", (event) => {
    const file = pictureIn(event.clipboardData);
    if (!file || !find("#search")) return;
    event.preventDefault();
    searchByPicture(file);
  });

  const overlay = (value) => {
    const drop = find("#drop");
    if (drop) drop.hidden = !value;
  };
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    // Otherwise the browser would open the file.
    event.preventDefault();
    overlay(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) overlay(false);
  });
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    overlay(false);
    const file = pictureIn(event.dataTransfer);
    if (file && find("#search")) searchByPicture(file);
  });

  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.matches("input:not([type=checkbox]), select, textarea");
    const box = find("#q");
    if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && box) {
      event.preventDefault();
      box.focus();
      box.select();
    }
  });

  // A picture that is not there leaves its place empty, without the browser's sign. Such events don't bubble.
  document.addEventListener("error", (event) => event.target.matches?.("img") && event.target.classList.add("broken"), true);

  addEventListener("popstate", () => {
    if (location.search === shown) {
      // A link within the page, such as the one to the results: loading them anew would take the focus away again.
      if (!location.hash) running?.abort();
      return;
    }
    if (find("#search")) show(location.search ? `./${location.search}` : "./", "", { form: true });
  });
})();
