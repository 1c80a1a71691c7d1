// A job's last run, and another one.
import {h, icon, text, toast} from './dom.js';
import {count, moment, ago, span, stateOf} from './format.js';
import {run} from './api.js';

/** jobPanel tells of a job's last run, and runs it again. */
export function jobPanel(f) {
	const go = h('button', {type: 'button', class: 'primary', onclick: again}, icon('play'), h('span', {}, 'Run again'));
	const bar = h('div', {class: 'split-bar', 'aria-hidden': 'true'}), legend = h('ul', {class: 'legend'}), facts = h('dl', {});
	const title = h('h2', {}), panel = h('section', {class: 'panel job'}, h('div', {class: 'head'}, title, go), bar, legend, facts);
	let sent = false;

	async function again() {
		sent = go.disabled = true;
		try {
			await run(f);
			toast(`${f.name} is run again`);
		} catch (e) {
			toast(e.message, 'bad');
		}
		sent = false;
		panel.update(f);
	}

	panel.update = now => {
		f = now;
		const j = f.job;
		if (!j) return;
		go.disabled = sent || !j.ended;
		text(go.lastChild, j.ended ? 'Run again' : stateOf(f)[1]);
		text(title, 'Run ' + count(j.iteration));
		const parts = [['done', 'done', j.done], ['errors', 'failed', j.failed], f.state === 'waiting' ? ['rest', 'waiting', j.running] : ['run', 'running', j.running], ['rest', 'to do', j.ended ? 0 : j.completions - j.done - j.running]].filter(([, , n]) => n > 0);
		bar.replaceChildren(...parts.map(([kind, , n]) => { const e = h('i', {class: kind}); e.style.flexGrow = String(n); return e; }));
		legend.replaceChildren(...parts.map(([kind, word, n]) => h('li', {class: kind}, `${count(n)} ${word}`)));
		const began = new Date(j.began);
		const rows = {
			Began: began.getFullYear() > 1 ? `${moment(began)}, ${ago(began)}` : 'not yet',
			Took: j.ended && span(new Date(j.ended) - began),
			'Last exit status': j.exitCode !== undefined && String(j.exitCode),
			'Last failure': j.failure,
		};
		facts.replaceChildren(...Object.entries(rows).filter(([, v]) => v).flatMap(([name, v]) => [h('dt', {}, name), h('dd', {}, v)]));
	};
	return panel;
}
