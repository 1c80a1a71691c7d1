// A function at a glance: scale, addresses, charts, definition.
import {h, icon, text, attribute, parted, command, copyButton, toast, badge} from './dom.js';
import {live} from './live.js';
import {chart, tile} from './chart.js';
import {count, rate, seconds, percent, bytes, moment, ago, arrows} from './format.js';
import {at, describe, scaleTo, functionURL, quote} from './api.js';
import {jobPanel} from './job.js';
import {eventList} from './system.js';

export function overview(pane, f) {
	const tiles = {
		replicas: tile('Replicas'), rate: tile('Rate'), errors: tile('Errors'), latency: tile('p50, 5 min'),
		work: tile('In flight'), total: tile('Invocations'),
	};
	const charts = {
		rate: chart('Invocations per second', [{name: 'all', kind: 'rate', area: true}, {name: 'errors', kind: 'errors', area: true}], rate),
		latency: chart('Latency', [{name: 'p99', kind: 'second'}, {name: 'p50', kind: 'rate'}], seconds),
		errors: chart('Errors', [{name: 'errors', kind: 'errors', area: true}], v => v + '%'),
		replicas: chart('Replicas', [{name: 'desired', kind: 'second', whole: true}, {name: 'ready', kind: 'rate', area: true}], v => String(Math.round(v * 10) / 10)),
	};
	const scaler = f.job ? jobPanel(f) : scalePanel(f), details = h('section', {class: 'panel'}, h('h2', {}, 'Definition'), h('p', {class: 'note'}, 'Loading…'));
	const happened = h('section', {class: 'panel'}, h('h2', {}, 'Events'));
	if (f.job) pane.append(h('div', {class: 'columns'}, h('div', {class: 'wide'}, scaler, happened), h('div', {class: 'side'}, details))); // nobody calls a job
	else {
		pane.append(h('div', {class: 'tiles'}, Object.values(tiles)), h('div', {class: 'columns'},
			h('div', {class: 'wide'}, h('div', {class: 'charts'}, Object.values(charts)), happened),
			h('div', {class: 'side'}, scaler, addresses(f), details)));
	}

	let closed = false, timer;
	async function past() {
		scaler.update(f); // how long ago things were
		if (f.job) { timer = setTimeout(past, 1000); return; }
		try {
			const r = await fetch(at('history?function=' + encodeURIComponent(f.id)));
			if (r.ok && !closed) drawPast(await r.json());
		} catch { /* the next one may come through */ }
		if (!closed) timer = setTimeout(past, live.system.step * 1000);
	}

	function drawPast(p) {
		const {step, points, began} = live.system;
		// From when the gateway began there was nothing to tell, if nothing was told.
		const since = Math.min(points, Math.max(1, p.ended?.length ?? 0, Math.ceil((p.end - new Date(began) / 1000) / step)));
		const pad = (values, filler) => [...Array(Math.max(0, since - (values?.length ?? 0))).fill(filler), ...values ?? []];
		const per = values => pad(values, 0).map(v => v / step), gap = values => pad(values, 0).map(v => v || null);
		const ended = pad(p.ended, 0), failed = pad(p.failed, 0);
		const at = {end: p.end, step, points: Math.min(points, Math.max(since, 60))}; // a young gateway's ten minutes aren't lost in an hour
		charts.rate.draw({...at, values: [per(p.ended), per(p.failed)]});
		charts.latency.draw({...at, values: [gap(p.p99), gap(p.p50)]});
		charts.errors.draw({...at, values: [ended.some(Boolean) ? ended.map((n, i) => n ? Math.round(1000 * failed[i] / n) / 10 : 0) : ended.map(() => null)]});
		const now = live.functions.get(f.id) ?? f;
		charts.replicas.draw({...at, values: [pad(p.desired, p.desired?.[0] ?? now.desired), pad(p.ready, p.ready?.[0] ?? now.ready)]});
	}

	let asked = '';
	const uncovered = new Set(); // variables whose values were asked for, as they stay when the rest is read again
	async function definition() {
		try {
			for (const usage of [false, true]) { // which takes its time
				const d = await describe(f, usage);
				if (closed) return;
				details.replaceChildren(h('h2', {}, 'Definition'), ...definitionOf(d, uncovered));
			}
		} catch (e) {
			if (!closed) details.replaceChildren(h('h2', {}, 'Definition'), h('p', {class: 'banner bad'}, e.message));
		}
	}

	function update(now, change) {
		f = now;
		tiles.replicas.set(`${f.ready} / ${f.desired}`, f.ready === f.desired ? '' : 'ready / desired', f.state === 'failing' ? 'bad' : '');
		tiles.rate.set(rate(f.rate) + '/s');
		tiles.errors.set(percent(f.failures, f.rate), '', f.failures ? 'bad' : '');
		tiles.latency.set(seconds(f.p50), f.p99 ? 'p99 ' + seconds(f.p99) : '');
		tiles.work.set(count(f.inFlight), f.queued ? `${count(f.queued)} queued` : '', f.queued ? 'warn' : '');
		tiles.total.set(count(f.total), f.coldStarts ? `${count(f.coldStarts)} cold` : '');
		scaler.update(f);
		const shape = JSON.stringify([f.image, f.command, f.secrets, f.ready, f.created]);
		const renewed = change?.fresh?.some(e => e.kind === 'updated' && e.function === f.id);
		if (shape !== asked || renewed) { asked = shape; definition(); }
		if (!change || change.events) happened.replaceChildren(h('h2', {}, 'Events'), eventList(live.events.filter(e => e.function === f.id), false));
	}

	past();
	update(f);
	return {update, close() { closed = true; clearTimeout(timer); }};
}

/** scalePanel sets the number of replicas. */
function scalePanel(f) {
	const slider = h('input', {type: 'range', min: 0, step: 1, 'aria-label': 'Replicas'});
	const number = h('input', {type: 'number', min: 0, max: 10000, step: 1, 'aria-label': 'Replicas', class: 'tiny'});
	const apply = h('button', {type: 'button', class: 'primary', onclick: set}, 'Scale');
	const note = h('p', {class: 'note'}), why = h('p', {class: 'note', hidden: true}), held = h('p', {class: 'note', hidden: true}), ends = h('span', {class: 'note'});
	const panel = h('section', {class: 'panel scale'}, h('h2', {}, 'Scale'),
		h('div', {class: 'row'}, slider, number, apply), ends, note, why, held);
	let touched = false, busy = false;
	const move = from => () => { touched = true; const v = from.value; slider.value = v; number.value = v; state(); };
	slider.addEventListener('input', move(slider));
	number.addEventListener('input', move(number));
	number.addEventListener('keydown', e => { if (e.key === 'Enter' && !apply.disabled) set(); });

	const wanted = () => /^\d+$/.test(number.value) ? Number(number.value) : NaN;
	const state = () => { apply.disabled = busy || !(wanted() >= 0) || wanted() === f.desired; };

	async function set() {
		busy = true;
		state();
		try {
			await scaleTo(f, wanted());
			toast(`${f.name} scales to ${count(wanted())} ${wanted() === 1 ? 'replica' : 'replicas'}`);
			touched = false;
		} catch (e) {
			toast(e.message, 'bad');
		}
		busy = false;
		state();
	}

	panel.update = now => {
		f = now;
		if (touched && wanted() === f.desired) touched = false;
		attribute(slider, 'max', String(Math.max(f.max, f.desired)));
		if (!touched && document.activeElement !== number) { slider.value = f.desired; number.value = f.desired; }
		text(ends, f.auto ? `By load, from ${f.min} to ${f.max}` : 'By hand; load changes nothing');
		why.hidden = !f.why;
		text(why, f.why ? `${arrows(f.why)} (${ago(f.since)})` : '');
		held.hidden = !f.held;
		text(held, f.held ? `Not lowered: ${f.held}` : '');
		text(note, (f.desired === 0 ? 'At zero: the next invocation starts it.'
			: `${count(f.ready)} of ${count(f.desired)} ready.`));
		state();
	};
	return panel;
}

function addresses(f) {
	const url = functionURL(f), plain = new URL(url);
	const line = (label, value) => h('div', {class: 'copyable'}, h('span', {class: 'note'}, label), shown(value), copyButton('Copy ' + label, () => value));
	const shown = value => { const e = h('code', {}); command(e, value); return e; };
	return h('section', {class: 'panel'}, h('h2', {}, 'Addresses'),
		line('URL', url),
		line('Path', plain.pathname),
		line('Header', 'X-Function: ' + (f.namespace === 'openfaas-fn' ? f.name : f.id)),
		line('curl', `curl -d '' ${quote(url)}`));
}

/** definitionOf lists what is deployed. Values of the environment stay covered until asked for. */
function definitionOf(d, uncovered) {
	const rows = [], row = (name, ...value) => rows.push(h('dt', {}, name), h('dd', {}, ...value));
	const code = v => h('code', {}, v), none = h('span', {class: 'note'}, 'none');
	const table = (map, uncovered) => {
		const names = Object.keys(map ?? {}).sort();
		return names.length ? h('ul', {class: 'pairs'}, names.map(n => pair(n, map[n], uncovered))) : none.cloneNode(true);
	};
	row('Image', h('code', {}, parted(d.image)));
	if (d.envProcess) row('Command', code(d.envProcess));
	row('Environment', table(d.envVars, uncovered));
	row('Secrets', d.secrets?.length ? d.secrets.map(n => badge('idle', n)) : none.cloneNode(true));
	row('Limits', table(d.limits));
	if (d.requests) row('Requests', table(d.requests));
	row('Labels', table(Object.fromEntries(Object.entries(d.labels).filter(([n]) => n !== 'faas_function'))));
	row('Annotations', table(d.annotations));
	if (d.constraints?.length) row('Constraints', d.constraints.map(code));
	if (d.readOnlyRootFilesystem) row('Root files', 'read-only');
	if (d.usage) row('Uses', `${d.usage.cpu > 0 && d.usage.cpu < 10 ? '< 0.01' : (d.usage.cpu / 1000).toFixed(2)} cores, ${bytes(d.usage.totalMemoryBytes)}`);
	row('Deployed', h('span', {title: moment(d.createdAt)}, ago(d.createdAt)));
	return [h('dl', {}, rows)];
}

function pair(name, value, uncovered) {
	const cover = uncovered && !uncovered.has(name);
	const shown = h('code', {class: 'value'}, cover ? '••••••' : value);
	return h('li', {}, h('code', {}, name), ' ', shown,
		cover && h('button', {type: 'button', class: 'icon small', 'aria-label': 'Show the value of ' + name, title: 'Show', onclick: e => { uncovered.add(name); text(shown, value); e.currentTarget.remove(); }}, icon('eye')));
}
