"use strict";

const find = (selector) => document.querySelector(selector);
const form = find("form");
const inputs = [...form.querySelectorAll("input")];
let bounds = { bytes: Infinity };

fetch("about").then((response) => response.json()).then((about) => {
  bounds = about;
  find("#how").textContent = about.how;
  find("#model").textContent = about.model;
});

for (const input of inputs) {
  const label = input.closest(".image");
  input.addEventListener("change", () => show(label, input.files[0]));
  label.addEventListener("dragover", (event) => {
    event.preventDefault();
    label.classList.add("over");
  });
  label.addEventListener("dragleave", () => label.classList.remove("over"));
  label.addEventListener("drop", (event) => {
    event.preventDefault();
    label.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change"));
  });
}

// A preview where the browser can show one; what the server makes of the file it says itself.
function show(label, file) {
  const [image, hint] = [label.querySelector("img"), label.querySelector(".hint")];
  URL.revokeObjectURL(image.src);
  image.hidden = true;
  hint.hidden = false;
  hint.textContent = file ? file.name : "Choose an image, or drop one here";
  clear();
  if (!file || file.size > bounds.bytes) return;
  image.onload = () => [image.hidden, hint.hidden] = [false, true];
  image.onerror = () => image.removeAttribute("src");
  image.src = URL.createObjectURL(file);
}

function clear() {
  find("#error").hidden = find("#result").hidden = true;
}

function fail(text) {
  find("#error").textContent = text;
  find("#error").hidden = false;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = find("button");
  const [first, second] = inputs.map((input) => input.files[0]);
  clear();
  button.disabled = true;
  button.textContent = "Comparing ...";
  try {
    const response = await fetch(`compare?first=${first.size}`, {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: new Blob([first, second]),
    });
    const answer = await response.json();
    if (response.ok) present(answer);
    else fail(answer.error);
  } catch {
    fail("There was no answer: the images are too large together, or the program that serves this page has stopped.");
  } finally {
    button.disabled = false;
    button.textContent = "Compare";
  }
});

function present(answer) {
  const percent = (cosine) => `${50 * (1 + cosine)}%`;
  const result = find("#result");
  result.className = answer.same === null ? "" : answer.same ? "yes" : "no";
  [find("#verdict").textContent, find("#at").textContent] = [answer.verdict, answer.at];
  find("#cosine").textContent = answer.cosine.toFixed(4);
  find("#bar").style.width = percent(answer.cosine);
  find("#threshold").hidden = answer.threshold === null;
  if (answer.threshold !== null) find("#threshold").style.left = percent(answer.threshold);
  document.querySelectorAll(".face").forEach((image, place) => image.src = answer.faces[place]);
  result.hidden = false;
}
