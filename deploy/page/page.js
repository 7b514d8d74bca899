"use strict";

const form = document.querySelector("form");
const answer = document.querySelector("#answer");
const figure = document.querySelector("figure");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  figure.hidden = true;
  answer.textContent = "...";
  const [first, second] = ["first", "second"].map((name) => form.elements[name].files[0]);
  try {
    const response = await fetch(`compare?first=${first.size}`, {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: new Blob([first, second]),
    });
    const result = await response.json();
    if (!response.ok) {
      answer.textContent = result.error;
      return;
    }
    answer.textContent = `Cosine ${result.cosine.toFixed(4)}: ${result.verdict}`;
    for (const name of ["first", "second"]) document.getElementById(name).src = result[name];
    figure.hidden = false;
  } catch {
    answer.textContent = "No answer: the pictures are too large together, or the server has stopped.";
  }
});
