"use strict";
/* Draws and ranks for another bandwidth and round trip. Shapes are those of link_plot.py, so that nothing jumps when a
   slider is touched first; the page is complete without this. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const [leastMbps, mostMbps] = data.axis_mbps;
  const BADGE = 9, BADGE_GAP = 22, LETTER_WIDTH = 6.7, STRIP_TOP = 4, STRIP_HEIGHT = 26, CROSSING_GAP = 40, STEPS = 32;
  const NO_SPLIT = "a split does not pay here";
  const WORDS = { local: "staying on the device", split: "a split", offload: "sending the whole input", cascade: "a cascade" };
  const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

  const near = (place) => String(Math.round(place * 10) / 10);
  const three = (figure) => figure >= 1000 ? Math.round(figure).toLocaleString("en-US") : String(Number(figure.toPrecision(3)));
  const plain = (tick) => tick < 1 ? String(Number(tick.toFixed(6))) : Math.round(tick).toLocaleString("en-US");
  const title = (text) => text[0].toUpperCase() + text.slice(1);
  const base = (curve, rtt) => curve.fixed_ms + curve.turns * rtt;
  const latency = (curve, mbps, rtt) => base(curve, rtt) + curve.slope / mbps;

  function envelope(rtt) {
    const lines = [...data.curves].sort((a, b) => base(a, rtt) - base(b, rtt) || a.slope - b.slope
      || (a.at !== data.chosen) - (b.at !== data.chosen) || a.at - b.at);
    const hull = [];
    for (const line of lines) {
      if (hull.length && line.slope >= hull[hull.length - 1].curve.slope) continue;
      let start = 0;
      while (hull.length) {
        const last = hull[hull.length - 1];
        start = (base(line, rtt) - base(last.curve, rtt)) / (last.curve.slope - line.slope);
        if (start > last.start) break;
        hull.pop();
      }
      hull.push({ curve: line, start: hull.length ? start : 0 });
    }
    return hull.map(({ curve, start }, place) => {
      const end = place + 1 < hull.length ? hull[place + 1].start : Infinity;
      return { curve, from: Math.max(leastMbps, 1 / end), to: Math.min(mostMbps, start ? 1 / start : Infinity) };
    }).filter(({ from, to }) => from < to).reverse();
  }

  const letters = new Map(data.curves.filter((curve) => curve.letter).map((curve) => [curve.at, curve.letter]));
  function letter(curve) {
    if (!letters.has(curve.at)) {
      const place = letters.size, round = Math.floor(place / LETTERS.length);
      letters.set(curve.at, LETTERS[place % LETTERS.length] + (round || ""));
    }
    return letters.get(curve.at);
  }

  function ticks(least, most) {
    const found = [];
    for (let power = Math.floor(Math.log10(least)) - 1; power < Math.ceil(Math.log10(most)) + 2; power++)
      for (const factor of [1, 2, 5]) found.push(Number(`${factor}e${power}`));
    return found.filter((tick) => tick >= least * (1 - 1e-9) && tick <= most * (1 + 1e-9));
  }
  const isDecade = (tick) => tick.toExponential(0).startsWith("1e");

  function range(stretches, shown, rtt) {
    const all = stretches.flatMap(({ curve, from, to }) => [latency(curve, to, rtt), latency(curve, from, rtt)])
      .concat(shown).filter((ms) => ms > 0);
    const least = (all.length ? Math.min(...all) : 1) / 1.5, most = (all.length ? Math.max(...all) : 1) * 2.5;
    return [least, Math.max(most, least * 8)];
  }

  function shapes(frame, stretches, named, others, chosen, mbps, rtt, [leastMs, mostMs]) {
    const { width, height, left, top } = frame, bottom = height - frame.bottom, right = width - frame.right;
    const x = (value) => left + Math.log(value / leastMbps) / Math.log(mostMbps / leastMbps) * (right - left);
    const y = (ms) => bottom - Math.log(ms / leastMs) / Math.log(mostMs / leastMs) * (bottom - top);
    const found = [], add = (tag, attributes, text = "") => found.push({ tag, attributes, text });

    for (const { curve, from, to } of stretches) {
      const wide = x(to) - x(from), box = { x: near(x(from)), width: near(wide) };
      const texts = [`${letter(curve)} ${curve.name}`, `${letter(curve)} ${curve.kind}`, letter(curve)];
      if (curve.kind !== "split") texts.unshift(...texts.slice(0, 2).map((text) => `${text}: ${NO_SPLIT}`));
      const text = texts.find((one) => [...one].length * LETTER_WIDTH + 8 <= wide);
      add("rect", { class: `wash ${curve.kind}`, ...box, y: top, height: bottom - top });
      add("rect", { class: `strip ${curve.kind}`, ...box, y: STRIP_TOP, height: STRIP_HEIGHT });
      if (text) add("text", { class: "in-strip", x: near((x(from) + x(to)) / 2), y: STRIP_TOP + 17, "text-anchor": "middle" }, text);
    }
    for (const tick of ticks(leastMbps, mostMbps)) {
      const at = near(x(tick)), decade = isDecade(tick);
      add("line", { class: decade ? "grid" : "grid fine", x1: at, x2: at, y1: top, y2: bottom });
      if (decade) add("text", { class: "soft", x: at, y: bottom + 17, "text-anchor": "middle" }, plain(tick));
    }
    const rising = ticks(leastMs, mostMs), every = rising.length * 20 <= bottom - top;
    for (const tick of rising) {
      const at = y(tick);
      add("line", { class: "grid", x1: left, x2: right, y1: near(at), y2: near(at) });
      if (every || isDecade(tick)) add("text", { class: "soft", x: left - 7, y: near(Number(near(at)) + 4), "text-anchor": "end" }, plain(tick));
    }
    add("text", { class: "soft", x: left - 7, y: top - 8, "text-anchor": "end" }, "ms");
    add("text", { class: "soft", x: right, y: height - 8, "text-anchor": "end" }, "Mbit/s up");

    const line = (curve, classes, from = leastMbps, to = mostMbps) => {
      const room = mostMs - base(curve, rtt);
      const start = curve.slope && room > 0 ? Math.max(from, curve.slope / room) : from;
      if (room <= 0 || start >= to) return;
      const steps = curve.slope ? STEPS : 1, points = [];
      for (let step = 0; step <= steps; step++) {
        const at = start * (to / start) ** (step / steps);
        const ms = Math.min(Math.max(latency(curve, at, rtt), leastMs), mostMs);
        points.push(`${x(at).toFixed(1)},${y(ms).toFixed(1)}`);
      }
      add("path", { class: classes, d: "M" + points.join("L") });
    };
    others.forEach((curve) => line(curve, "other"));
    named.forEach((curve) => line(curve, `curve ${curve.kind}`));
    stretches.forEach(({ curve, from, to }) => line(curve, `best ${curve.kind}`, from, to));

    const places = [-Infinity, ...stretches.slice(1).map(({ from }) => x(from)), Infinity];
    stretches.slice(1).forEach(({ from }, place) => {
      const at = places[place + 1];
      add("line", { class: "crossing", x1: near(at), x2: near(at), y1: STRIP_TOP + STRIP_HEIGHT, y2: bottom });
      const closeBefore = at - places[place] < CROSSING_GAP, closeAfter = places[place + 2] - at < CROSSING_GAP;
      if (closeBefore && closeAfter) return;
      const anchor = closeBefore ? "start" : closeAfter ? "end" : "middle";
      const inside = anchor === "middle" ? Math.min(Math.max(at, left + 14), right - 14) : at;
      add("text", { class: "halo", x: near(inside), y: STRIP_TOP + STRIP_HEIGHT + 14, "text-anchor": anchor }, three(from));
    });
    const here = x(mbps), rightHalf = here > (left + right) / 2;
    add("line", { class: "upright", x1: near(here), x2: near(here), y1: top, y2: bottom });
    add("text", { class: "halo strong", x: near(rightHalf ? here - 6 : here + 6), y: bottom - 8, "text-anchor": rightHalf ? "end" : "start" }, `${three(mbps)} Mbit/s`);

    const clear = (from, to) => {
      const middle = Math.sqrt(from * to);
      return Math.abs(x(middle) - here) < BADGE_GAP ? Math.sqrt(from * middle) : middle;
    };
    const middles = new Map(stretches.map(({ curve, from, to }) => [curve.at, clear(from, to)])), taken = [];
    const mbpsAt = (place) => leastMbps * (mostMbps / leastMbps) ** ((place - left) / (right - left));
    const first = left + BADGE + 2, final = right - BADGE - 2;
    for (const curve of named) {
      let badgeX = Math.min(Math.max(x(middles.get(curve.at) ?? mostMbps), first), final), badgeY = 0, ms = 0;
      while (badgeX >= first) {
        ms = latency(curve, mbpsAt(badgeX), rtt);
        badgeY = y(Math.min(ms, mostMs));
        if (!taken.some(([ox, oy]) => Math.abs(badgeX - ox) < BADGE_GAP && Math.abs(badgeY - oy) < BADGE_GAP)) break;
        badgeX -= BADGE;
      }
      if (badgeX < first || ms > mostMs) continue;
      taken.push([badgeX, badgeY]);
      add("circle", { class: `badge ${curve.kind}`, cx: near(badgeX), cy: near(badgeY), r: BADGE });
      add("text", { class: "in-badge", x: near(badgeX), y: near(badgeY + 4), "text-anchor": "middle" }, letter(curve));
    }
    if (chosen && latency(chosen, mbps, rtt) <= mostMs)
      add("circle", { class: "chosen", cx: near(here), cy: near(y(latency(chosen, mbps, rtt))), r: 6 });
    return found;
  }

  function paint(svg, drawn) {
    svg.replaceChildren(...drawn.map(({ tag, attributes, text }) => {
      const element = document.createElementNS(svg.namespaceURI, tag);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      element.textContent = text;
      return element;
    }));
  }

  function whereASplitPays(stretches) {
    const runs = [];
    for (const { curve, from, to } of stretches) {
      const last = runs[runs.length - 1];
      if (last && last.kind === curve.kind) last.to = to; else runs.push({ kind: curve.kind, from, to });
    }
    const end = runs.some(({ kind }) => kind === "split") ? "." : ": a split does not pay.";
    if (runs.length === 1)
      return `${title(WORDS[runs[0].kind])} is the fastest at any bandwidth from ${three(runs[0].from)} to ${three(runs[0].to)} Mbit/s${end}`;
    return title(runs.map(({ kind, from, to }, place) => {
      if (place === 0) return `${WORDS[kind]} is the fastest below ${three(to)} Mbit/s`;
      return place === runs.length - 1 ? `${WORDS[kind]} above ${three(from)}` : `${WORDS[kind]} from ${three(from)} to ${three(to)}`;
    }).join(", ")) + end;
  }

  const rows = new Map([...document.querySelectorAll("tbody[data-at]")].map((row) => [Number(row.dataset.at), row]));
  const cell = (tag, text, classes) => { const made = document.createElement(tag); made.textContent = text; if (classes) made.className = classes; return made; };

  function legend(stretches, named, mbps, rtt) {
    $("legend").tBodies[0].replaceChildren(...named.map((curve) => {
      const row = document.createElement("tr"), head = cell("th", "");
      const mine = stretches.find((stretch) => stretch.curve === curve);
      head.scope = "row";
      head.append(cell("span", letter(curve), `letter ${curve.kind}`), ` ${curve.name}`);
      if (mine && curve.kind !== "split") head.append(cell("span", ` ${NO_SPLIT}`, "soft"));
      row.append(head, cell("td", mine ? `${three(mine.from)} to ${three(mine.to)}` : "nowhere"), cell("td", three(latency(curve, mbps, rtt))));
      row.classList.toggle("now", !!mine && mbps >= mine.from && mbps <= mine.to);
      return row;
    }));
  }

  function bestOfKinds(mbps, rtt) {
    return Object.keys(WORDS).map((kind) => data.curves.filter((curve) => curve.kind === kind)).filter((of) => of.length)
      .map((of) => of.reduce((a, b) => {
        const apart = latency(b, mbps, rtt) - latency(a, mbps, rtt);
        return apart < 0 || (apart === 0 && b.at === data.chosen) ? b : a;
      }));
  }

  function tiles(mbps, rtt) {
    for (const best of bestOfKinds(mbps, rtt)) {
      const tile = document.querySelector(`.tile[data-kind="${best.kind}"]`);
      tile.querySelector(".figure").textContent = `${three(latency(best, mbps, rtt))} ms`;
      tile.querySelector(".name").textContent = best.name;
    }
  }

  function ranked(mbps, rtt) {
    const cost = (curve) => {
      const ms = latency(curve, mbps, rtt), missed = data.max_latency_ms !== null && ms > data.max_latency_ms;
      const first = missed ? ms : data.objective === "bytes" ? curve.bytes
        : data.objective === "energy" && curve.energy_mj !== null ? curve.energy_mj : ms;
      return [Number(missed), first, ms, Number(curve.at !== data.chosen)];
    };
    return data.curves.map((curve) => ({ curve, cost: cost(curve) })).sort((a, b) => {
      const place = a.cost.findIndex((figure, at) => figure !== b.cost[at]);
      return place < 0 ? 0 : a.cost[place] - b.cost[place];
    }).map(({ curve }) => curve);
  }

  function table(order, mbps, rtt) {
    const rest = $("rest"), silent = rest ? [...rest.tBodies].filter((row) => row.dataset.curve === "no") : [];
    order.forEach((curve, place) => {
      const row = rows.get(curve.at), ms = latency(curve, mbps, rtt);
      row.querySelector('[data-cell="latency"]').textContent = three(ms);
      if (curve.link_ms !== null) {
        const more = curve.share ? (ms - latency(curve, data.up_mbps, data.rtt_ms)) / curve.share : 0;
        row.querySelector('[data-cell="link"]').textContent = three(Math.max(0, curve.link_ms + more));
      }
      (place < data.best_shown ? $("best") : rest).append(row);
    });
    if (rest) rest.append(...silent);
  }

  const toMbps = (place) => leastMbps * (mostMbps / leastMbps) ** (place / 1000);
  const toPlace = (mbps) => Math.log(mbps / leastMbps) / Math.log(mostMbps / leastMbps) * 1000;
  const bandwidth = $("bandwidth"), trip = $("trip");
  if (!bandwidth) return;

  function change(mbps, rtt) {
    const stretches = envelope(rtt), order = ranked(mbps, rtt);
    const chosen = data.curves.find((curve) => curve.at === data.chosen);
    const named = stretches.map(({ curve }) => curve);
    for (const curve of [...(chosen ? [chosen] : []), ...bestOfKinds(mbps, rtt)])
      if (!named.includes(curve)) named.push(curve);
    const others = data.curves.filter((curve) => !named.includes(curve));
    const axis = range(stretches, named.map((curve) => latency(curve, mbps, rtt)), rtt);
    for (const frame of data.frames)
      paint($(frame.id), shapes(frame, stretches, named, others, chosen, mbps, rtt, axis));
    legend(stretches, named, mbps, rtt);
    tiles(mbps, rtt);
    table(order, mbps, rtt);
    $("pays").textContent = `At this round trip: ${whereASplitPays(stretches)}`;
    const fastest = data.curves.reduce((a, b) => latency(b, mbps, rtt) < latency(a, mbps, rtt) ? b : a, order[0]);
    const others_ = order.filter((curve) => curve !== fastest && curve.kind !== fastest.kind);
    const next = others_.length ? others_.reduce((a, b) => latency(b, mbps, rtt) < latency(a, mbps, rtt) ? b : a) : null;
    $("now").textContent = `Fastest: ${fastest.name}, ${three(latency(fastest, mbps, rtt))} ms`
      + (next ? `; next of another kind: ${next.name}, ${three(latency(next, mbps, rtt))} ms.` : ".")
      + (fastest.kind === "split" ? "" : ` ${title(NO_SPLIT)}.`);
    for (const told of document.querySelectorAll(".at-link"))
      told.textContent = `at ${three(mbps)} Mbit/s up, ${three(mbps * data.down_over_up)} down, ${three(rtt)} ms`;
    $("bandwidth-told").textContent = three(mbps);
    $("trip-told").textContent = three(rtt);
    bandwidth.setAttribute("aria-valuetext", `${three(mbps)} Mbit/s`);
    trip.setAttribute("aria-valuetext", `${three(rtt)} ms`);
  }
  const state = { mbps: data.up_mbps, rtt: data.rtt_ms };
  const reset = () => {
    Object.assign(state, { mbps: data.up_mbps, rtt: data.rtt_ms });
    bandwidth.value = toPlace(state.mbps);
    trip.value = state.rtt;
    change(state.mbps, state.rtt);
  };
  trip.max = data.most_rtt_ms;
  bandwidth.addEventListener("input", () => { state.mbps = toMbps(Number(bandwidth.value)); change(state.mbps, state.rtt); });
  trip.addEventListener("input", () => { state.rtt = Number(trip.value); change(state.mbps, state.rtt); });
  $("reset").addEventListener("click", reset);
  $("sliders").hidden = false;
  reset();
})();
