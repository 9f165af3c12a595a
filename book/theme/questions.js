// Marks the questions of a page: reads a number as a person writes it, says right, near or wrong,
// and remembers the answers in this browser. Nothing is sent anywhere.
"use strict";
(() => {
    const KEY = "ferrotron-answers";

    // ----- Reading a number ----------------------------------------------------------------------

    const PREFIX = {
        "": 1, k: 1e3, K: 1e3, M: 1e6, G: 1e9, T: 1e12,
        Ki: 1024, ki: 1024, Mi: 1024 ** 2, Gi: 1024 ** 3, Ti: 1024 ** 4,
        thousand: 1e3, million: 1e6, billion: 1e9, trillion: 1e12,
    };
    const SECONDS = { ns: 1e-9, "µs": 1e-6, "μs": 1e-6, us: 1e-6, ms: 1e-3, s: 1, sec: 1, seconds: 1, min: 60, h: 3600 };

    // The values that `9,449`, `1.024` or `1 024` may stand for: a comma or a point may separate
    // thousands or decimals, and where both can be meant, both count.
    function digits(text) {
        const bare = text.replace(/[\s'’_\u00a0\u202f]/g, "");
        if (!/^[\d.,]*\d[\d.,]*$/.test(bare)) return [];
        const found = [];
        for (const [group, point] of [[",", "."], [".", ","]]) {
            const parts = bare.split(point);
            if (parts.length > 2 || (parts[1] || "").includes(group)) continue;
            const groups = parts[0].split(group);
            if (groups.length > 1 && !groups.every((g, i) => i === 0 ? /^\d{1,3}$/.test(g) : /^\d{3}$/.test(g))) continue;
            found.push(Number(`${groups.join("") || "0"}.${parts[1] || "0"}`));
        }
        return [...new Set(found)];
    }

    // Sums, products and powers of numbers, such as 4*2*128 or 2^20. Returns all values that the
    // text may have, or none where it is no formula.
    function formula(text) {
        const tokens = text.match(/[\d][\d.,'’_\u00a0\u202f]*(?:\s\d{3}(?!\d))*(?:[eE][+-]?\d+)?|[.,]\d+|\*\*|[-+*/^()]/g);
        if (!tokens || tokens.join("").replace(/\s/g, "") !== text.replace(/\s/g, "")) return [];
        let at = 0;
        const each = (a, b, f) => a.flatMap((x) => b.map((y) => f(x, y)));
        function atom() {
            const token = tokens[at++];
            if (token === "(") {
                const inner = sum();
                return tokens[at++] === ")" ? inner : [];
            }
            if (token === undefined) return [];
            const [, mantissa, power] = token.match(/^(.*?)(?:[eE]([+-]?\d+))?$/);
            return digits(mantissa).map((x) => x * 10 ** Number(power || 0));
        }
        function power() {
            if (tokens[at] === "-") { at++; return power().map((x) => -x); }
            const base = atom();
            if (tokens[at] !== "^" && tokens[at] !== "**") return base;
            at++;
            return each(base, power(), (x, y) => x ** y);
        }
        function product() {
            let value = power();
            while (tokens[at] === "*" || tokens[at] === "/") {
                const times = tokens[at++] === "*";
                value = each(value, power(), (x, y) => times ? x * y : x / y);
            }
            return value;
        }
        function sum() {
            let value = product();
            while (tokens[at] === "+" || tokens[at] === "-") {
                const plus = tokens[at++] === "+";
                value = each(value, product(), (x, y) => plus ? x + y : x - y);
            }
            return value;
        }
        const values = sum();
        return at === tokens.length ? values.filter(Number.isFinite) : [];
    }

    // What a typed answer may mean, in the unit of the question; or why it means nothing.
    function read(typed, unit) {
        const plain = typed.trim().replace(/[·×]/g, "*").replace(/[−–]/g, "-").replace(/^(about|ca\.?|~|≈|=)\s*/i, "");
        const [, body, tail] = plain.match(/^(.*?[\d)])?\s*([^\d()]*)$/s) || [];
        if (!body) return { problem: "That is no number." };
        const values = formula(body);
        if (values.length === 0) return { problem: "I cannot read that as a number." };
        const word = (tail || "").trim();
        if (word === "") {
            // 20 is 20 %, and 0.2 as well.
            return { values: unit === "%" ? values.map((x) => x > 1 ? x / 100 : x) : values };
        }
        if (word === "%") {
            return unit === "%" ? { values: values.map((x) => x / 100) } : { problem: "This asks for no share." };
        }
        if (word in SECONDS) {
            return unit === "s" ? { values: values.map((x) => x * SECONDS[word]) } : { problem: "This asks for no time." };
        }
        const [, prefix, bytes] = word.match(/^(Ki|ki|Mi|Gi|Ti|[kKMGT]|thousand|million|billion|trillion)?\s*(B|b|[Bb]ytes?)?$/) || [];
        if (prefix === undefined && bytes === undefined) return { problem: `I do not know the unit “${word}”.` };
        if (bytes && unit !== "B") return { problem: "This asks for no bytes." };
        return { values: values.map((x) => x * PREFIX[prefix || ""]) };
    }

    // ----- Marking -------------------------------------------------------------------------------

    const off = (x, answer) => Math.abs(x - answer) / (Math.abs(answer) || 1);

    // Both the formula and what is typed may be rounded in the last bit.
    function marked(question, typed) {
        const { unit, answer, right, near, mistakes } = question.dataset;
        const { values, problem } = read(typed, unit);
        if (problem) {
            return { verdict: "unread", say: `${problem} Write it like 9.4 MB, 9400000, 1/5 or 2^20.` };
        }
        const best = values.reduce((a, b) => off(b, Number(answer)) < off(a, Number(answer)) ? b : a);
        const error = off(best, Number(answer));
        if (error <= Math.max(Number(right), 1e-9)) return { verdict: "right", say: "Right." };
        const known = JSON.parse(mistakes).find((m) => values.some((x) => off(x, m.answer) <= Math.max(Number(right), 0.001)));
        if (known) return { verdict: "wrong", say: `Wrong. ${known.say}` };
        if (error <= Number(near)) {
            return {
                verdict: "near",
                say: `Near: within ${Math.max(1, Math.ceil(error * 100))} %. ` +
                    (Number(right) === 0 ? "Can you make it exact?" : "What is missing?"),
            };
        }
        return { verdict: "wrong", say: `Wrong: ${best > Number(answer) ? "too large" : "too small"}.` };
    }

    function chosen(radio) {
        const right = "isRight" in radio.dataset;
        const say = radio.dataset.say;
        return { verdict: right ? "right" : "wrong", say: `${right ? "Right." : "Wrong."}${say ? ` ${say}` : ""}` };
    }

    // ----- Remembering ---------------------------------------------------------------------------

    // A browser may forbid it, or the page may have been opened as a file that may not.
    function load() {
        try { return JSON.parse(localStorage.getItem(KEY)) || {}; } catch { return {}; }
    }
    function save(answers) {
        try { localStorage.setItem(KEY, JSON.stringify(answers)); } catch { /* then only this page knows */ }
    }

    const questions = [...document.querySelectorAll(".question")];
    const answers = load();

    function show(question, { verdict, say }, first) {
        const output = question.querySelector("output");
        question.dataset.verdict = verdict;
        output.textContent = first === undefined ? say : `${say} Your first answer was ${first}.`;
        if (verdict === "right") question.querySelector(".way").open = true;
    }

    function verdictOf(question, value) {
        if ("answer" in question.dataset) return marked(question, value);
        const radio = question.querySelectorAll("input[type=radio]")[Number(value)];
        return radio ? chosen(radio) : undefined;
    }

    function score() {
        for (const line of document.querySelectorAll(".score")) {
            const asked = [...line.parentElement.querySelectorAll(".question")];
            const right = asked.filter((q) => q.dataset.verdict === "right").length;
            const tried = asked.some((q) => q.dataset.verdict);
            line.textContent = tried ? `${right} of ${asked.length} right.` : "";
        }
        for (const row of document.querySelectorAll(".progress [data-questions]")) {
            const ids = row.dataset.questions.split(" ");
            row.querySelector(".done").textContent = String(ids.filter((id) => answers[id]?.verdict === "right").length);
        }
    }

    function forget(ids) {
        for (const id of ids) delete answers[id];
        save(answers);
        for (const question of questions.filter((q) => ids.includes(q.id))) {
            delete question.dataset.verdict;
            question.querySelector("form").reset();
            question.querySelector("output").textContent = "";
            question.querySelector(".way").open = false;
        }
        score();
    }

    for (const question of questions) {
        const form = question.querySelector("form");
        const field = question.querySelector("input[type=text]");
        form.addEventListener("submit", (event) => {
            event.preventDefault();
            const value = field ? field.value : form.querySelector("input:checked")?.value;
            if (value === undefined || value.trim() === "") {
                show(question, { verdict: "unread", say: field ? "Type a number first." : "Choose one first." });
                return;
            }
            const result = verdictOf(question, value);
            const first = answers[question.id]?.first;
            if (result.verdict !== "unread") {
                answers[question.id] = { value, first: first ?? value, verdict: result.verdict };
                save(answers);
            }
            show(question, result, field && first !== undefined && first !== value ? first : undefined);
            score();
        });
        const known = answers[question.id];
        const result = known && verdictOf(question, known.value);
        if (!result) continue;
        if (field) field.value = known.value;
        else form.querySelectorAll("input")[Number(known.value)].checked = true;
        show(question, result, field && known.first !== known.value ? known.first : undefined);
    }

    // One button behind the last score of a page, and one below the table of all chapters.
    function button(text, behind, ids) {
        const reset = document.createElement("button");
        reset.type = "button";
        reset.className = "forget";
        reset.textContent = text;
        reset.addEventListener("click", () => forget(ids()));
        behind.after(reset);
    }
    const last = [...document.querySelectorAll(".score")].pop();
    if (last) button("Forget my answers on this page", last, () => questions.map((q) => q.id));
    const table = document.querySelector(".progress");
    if (table) button("Forget all my answers", table, () => Object.keys(answers));
    score();
})();
