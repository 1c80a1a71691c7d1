// Small charts, drawn in SVG.
import {h, s, text, attribute} from './dom.js';
import {clock} from './format.js';

const W = 600, H = 160, left = 46, right = 8, top = 10, bottom = 22;

/**
 * chart draws series over the last hour. series are {name, kind, area}; draw
 * takes {end, step, points, values: [[...], ...]}, the newest value last, null where there is none.
 */
export function chart(title, series, format) {
	const plot = s('svg', {viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': title});
	const tip = h('div', {class: 'tip', hidden: true});
	const frame = h('div', {class: 'plot'}, plot, tip);
	const figure = h('figure', {class: 'chart panel'},
		h('figcaption', {}, h('span', {class: 'title'}, title),
			series.length > 1 && h('span', {class: 'legend'}, series.map(one => h('span', {class: one.kind}, one.name)))),
		frame);
	let data;
	const y0 = H - bottom, wide = () => frame.clientWidth || W;

	figure.draw = d => {
		data = d;
		const most = Math.max(...d.values.flat().filter(v => v !== null), 0);
		const ceiling = nice(most || 1, series[0].whole);
		// Drawn in pixels, so that text and lines keep their shape whatever the width.
		const w = wide(), x = i => left + (w - left - right) * i / (d.points - 1), y = v => y0 - (y0 - top) * v / ceiling;
		attribute(plot, 'viewBox', `0 0 ${w} ${H}`);
		const parts = [];
		for (const part of [0, 0.5, 1]) {
			const v = ceiling * part;
			parts.push(s('line', {class: 'grid', x1: left, x2: w - right, y1: y(v), y2: y(v)}),
				s('text', {x: left - 6, y: y(v) + 4, 'text-anchor': 'end'}, v ? format(v) : '0'));
		}
		const ticks = w < 420 ? 3 : 5;
		for (let i = 0; i < ticks; i++) {
			const at = Math.round((d.points - 1) * i / (ticks - 1));
			parts.push(s('text', {x: x(at), y: H - 5, 'text-anchor': i === 0 ? 'start' : i === ticks - 1 ? 'end' : 'middle'},
				clock((d.end - (d.points - 1 - at) * d.step) * 1000).slice(0, 5)));
		}
		d.values.forEach((values, n) => {
			if (n && series[n].kind === 'errors' && !values.some(Boolean)) return; // would hide the others' zeros
			for (const path of paths(values, d.points, x, y)) {
				if (series[n].area && !path.alone) parts.push(s('path', {class: 'area ' + series[n].kind, d: `${path.line}L${path.to},${y0}L${path.from},${y0}Z`}));
				parts.push(s('path', {class: 'line ' + series[n].kind + (path.alone ? ' dot' : ''), d: path.line}));
			}
		});
		if (d.values.flat().every(v => v === null)) parts.push(s('text', {class: 'none', x: (left + w - right) / 2, y: top + (y0 - top) * 0.75 + 4, 'text-anchor': 'middle'}, 'Nothing to show yet'));
		plot.replaceChildren(...parts);
		attribute(plot, 'aria-label', `${title}: ` + d.values.map((values, n) =>
			`${series[n].name} now ${say(values.at(-1))}, at most ${say(Math.max(...values.filter(v => v !== null), 0))}`).join('; '));
	};

	const say = v => v === null || v === undefined ? 'none' : v ? format(v) : '0';

	frame.addEventListener('pointermove', e => {
		if (!data) return;
		const box = plot.getBoundingClientRect();
		const i = Math.round((e.clientX - box.left - left) / (box.width - left - right) * (data.points - 1));
		const inside = i >= 0 && i < data.points;
		tip.hidden = !inside;
		if (!inside) return;
		const offset = data.points - data.values[0].length;
		tip.replaceChildren(h('b', {}, clock((data.end - (data.points - 1 - i) * data.step) * 1000)),
			...series.map((one, n) => h('span', {class: one.kind}, `${one.name} ${say(data.values[n][i - offset])}`)));
		const px = left + (box.width - left - right) * i / (data.points - 1);
		tip.style.left = Math.min(Math.max(px, 70), box.width - 70) + 'px';
	});
	frame.addEventListener('pointerleave', () => { tip.hidden = true; });
	new ResizeObserver(() => data && figure.draw(data)).observe(frame);
	return figure;
}

/** paths are the lines of values, interrupted where there is none. */
function paths(values, points, x, y) {
	const offset = points - values.length, all = [];
	let path;
	values.forEach((v, i) => {
		if (v === null) { path = undefined; return; }
		const px = x(i + offset).toFixed(1);
		if (!path) all.push(path = {from: px, line: ''});
		path.line += (path.line ? 'L' : 'M') + px + ',' + y(v).toFixed(1);
		path.to = px;
	});
	for (const p of all) if (p.from === p.to) { p.alone = true; p.line += 'h0'; } // a dot
	return all;
}

/** nice is a round number that is not below v. */
function nice(v, integer) {
	const base = 10 ** Math.floor(Math.log10(v));
	for (const m of [1, 2, 4, 5, 10]) {
		if (m * base >= v && (!integer || m * base % 2 === 0)) return m * base;
	}
	return integer ? Math.max(2, 10 * base) : 10 * base;
}

/** spark is a row's tiny chart of invocations; errors stand out. */
export function spark() {
	const line = s('path', {class: 'area rate'}), bad = s('path', {class: 'errors'});
	const e = s('svg', {class: 'spark', viewBox: '0 0 90 24', preserveAspectRatio: 'none', 'aria-hidden': 'true'}, line, bad);
	e.draw = (ended, failed) => {
		const n = 30, w = 90 / n, most = Math.max(...ended ?? [], 1);
		let up = '', down = '';
		ended?.forEach((v, i) => {
			const x = ((i + n - ended.length) * w).toFixed(1);
			if (v) up += `M${x},23v-${(2 + 20 * v / most).toFixed(1)}h${(w - 0.8).toFixed(1)}V23z`;
			if (failed[i]) down += `M${x},23v-${(2 + 20 * failed[i] / most).toFixed(1)}h${(w - 0.8).toFixed(1)}V23z`;
		});
		attribute(line, 'd', up || 'M0,23h90v-.6H0z'); // so that an idle one is seen to be one
		attribute(bad, 'd', down);
	};
	return e;
}

/** tile is a number with its name. */
export function tile(name, onclick) {
	const number = h('b', {}, '–'), note = h('span', {class: 'note'});
	const e = onclick ? h('button', {type: 'button', class: 'tile panel', onclick}, number, h('span', {}, name), note)
		: h('div', {class: 'tile panel'}, number, h('span', {}, name), note);
	e.set = (value, small = '', kind = '') => {
		text(number, value);
		text(note, small);
		attribute(number, 'class', kind);
	};
	return e;
}
