/* An agent's line taken apart where its colours change, as zcplatform/lib/ansi.py does it: names for colours, every other
   sequence left out, and what could mislead spelled out. */
"use strict";

const SEQUENCE = /(?:\x1b\[|\x9b)([0-?]*)([ -/]*[@-~])|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-OQ-WYZ\\`-~]/g;
const UNSAFE = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]/gu;
const COLOURS = ["grey", "red", "green", "yellow", "blue", "magenta", "cyan", "grey"];
const STYLES = { 1: "bold", 2: "dim", 3: "italic", 4: "underline" };
const ENDS = { 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"] };

const spelled = (char) => {
  const code = char.charCodeAt(0);
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
};
const shown = (text) => text.replace(UNSAFE, spelled);

function sixteen(own) {
  if (own.length !== 2 || own[0] !== 5 || own[1] > 15) return -1;
  return own[1] < 8 ? 30 + own[1] : 82 + own[1];
}

function restyle(style, number) {
  if (number === 0) style.clear();
  else if (STYLES[number]) style.set(STYLES[number], STYLES[number]);
  else if (ENDS[number]) ENDS[number].forEach((name) => style.delete(name));
  else if (number === 39) style.delete("colour");
  else if ((number >= 30 && number <= 37) || (number >= 90 && number <= 97)) style.set("colour", COLOURS[number % 10]);
}

function change(style, codes) {
  const numbers = codes.split(";").map((code) => (/^[0-9]+$/.test(code) ? Number(code.slice(0, 4)) : 0));
  while (numbers.length) {
    let number = numbers.shift();
    if (number === 38 || number === 48) {
      const own = numbers.splice(0, numbers[0] === 2 ? 4 : numbers[0] === 5 ? 2 : 1);
      number = number === 38 ? sixteen(own) : -1;
    }
    restyle(style, number);
  }
}

/* Texts with their classes, in order. */
function ansiPieces(line) {
  const found = [];
  const style = new Map();
  let at = 0;
  const add = (end) => {
    if (end > at) found.push([shown(line.slice(at, end)), [...style.values()].map((name) => `ansi-${name}`).join(" ")]);
  };
  for (const match of line.matchAll(SEQUENCE)) {
    add(match.index);
    at = match.index + match[0].length;
    if (match[2] === "m") change(style, match[1]);
  }
  add(line.length);
  return found;
}
