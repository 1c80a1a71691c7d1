// What a function writes.
import {h, icon, iconButton, text, download} from './dom.js';
import {systemURL} from './api.js';
import {clock, moment} from './format.js';
import {live, whileHidden} from './live.js';

const kept = 2000; // lines in the page: laying out more would take it a noticeable time at each flush
const stamp = /^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d /; // which the watchdog puts before each line, and the page too

export function logs(pane, f) {
	if (!live.system.logs) {
		pane.append(h('p', {class: 'banner warn'}, `The provider ${live.system.provider} keeps no logs.`));
		return {};
	}
	const lines = []; // {at, replica, text, e}
	const filter = h('input', {type: 'search', placeholder: 'Filter lines', 'aria-label': 'Filter lines', oninput: () => { wanted = filter.value.toLowerCase(); draw(); }});
	const replica = h('select', {'aria-label': 'Replica', hidden: true, onchange: () => draw()}, h('option', {value: ''}, 'All replicas'));
	const follow = h('input', {type: 'checkbox', checked: true, onchange: () => { if (follow.checked) open(); else abort?.abort(); }});
	const wrap = h('input', {type: 'checkbox', checked: true, onchange: () => out.classList.toggle('wrap', wrap.checked)});
	const state = h('span', {class: 'note', role: 'status'});
	const out = h('ol', {class: 'log wrap', tabindex: '0', 'aria-label': 'Log'});
	const none = h('p', {class: 'note pad'}, '');
	pane.append(h('div', {class: 'tools'}, h('span', {class: 'search'}, icon('search'), filter), replica,
		h('label', {class: 'inline'}, follow, h('span', {}, 'Follow')), h('label', {class: 'inline'}, wrap, h('span', {}, 'Wrap')),
		iconButton('down', 'Download the lines shown', () => download(new Blob([lines.filter(matches).map(l => `${l.at} ${l.replica} ${l.text}\n`).join('')], {type: 'text/plain'}), f.name + '.log')),
		iconButton('close', 'Clear', () => { lines.length = 0; draw(); }), state),
	h('div', {class: 'panel logs'}, none, out));

	let wanted = '', abort, closed = false, pending = [], frame = 0;
	const matches = l => (!wanted || l.text.toLowerCase().includes(wanted)) && (!replica.value || l.replica === replica.value);

	/** flush shows what came since the last frame. */
	function flush() {
		frame = 0;
		const bottom = out.scrollHeight - out.scrollTop - out.clientHeight < 40;
		pending = pending.slice(-kept);
		for (const l of pending) {
			lines.push(l);
			if (![...replica.options].some(o => o.value === l.replica)) {
				replica.append(h('option', {value: l.replica}, l.replica));
				replica.hidden = replica.options.length < 3; // all, and one, are the same
			}
		}
		for (const l of lines.splice(0, lines.length - kept)) l.e?.remove();
		out.append(...pending.map(element));
		pending = [];
		tell();
		if (bottom) out.scrollTop = out.scrollHeight;
	}

	function element(l) {
		l.e = h('li', {hidden: !matches(l)}, h('time', {datetime: l.at, title: moment(l.at) + ' · ' + l.replica}, clock(l.at)), ' ', h('span', {}, l.text.replace(stamp, '')));
		return l.e;
	}

	function draw() {
		if (lines.length === 0) out.replaceChildren();
		for (const l of lines) l.e.hidden = !matches(l);
		out.scrollTop = out.scrollHeight;
		tell();
	}

	function tell() {
		const shown = lines.reduce((n, l) => n + (l.e.hidden ? 0 : 1), 0);
		none.hidden = shown > 0;
		text(none, lines.length ? 'No line matches.' : 'Nothing was written yet. Invoke the function, and what it prints on stderr appears here.');
		text(state, lines.length ? (shown === lines.length ? `${shown} lines` : `${shown} of ${lines.length} lines`) : '');
	}

	/** open reads on from the last line that is here, until it is stopped. */
	async function open() {
		abort?.abort();
		const mine = abort = new AbortController();
		for (let wait = 500; !closed && !mine.signal.aborted; wait = Math.min(2 * wait, 5000)) {
			await whileHidden();
			if (closed || mine.signal.aborted) return;
			const last = lines.at(-1) ?? pending.at(-1);
			const since = last ? '&since=' + encodeURIComponent(last.at) : '&tail=1000';
			// Lines of the last line's very moment come again.
			const seen = new Set(last ? [...lines, ...pending].filter(l => l.at === last.at).map(l => l.replica + l.text) : []);
			const call = new AbortController(), stop = () => call.abort();
			const hide = () => { if (document.hidden) stop(); };
			mine.signal.addEventListener('abort', stop);
			document.addEventListener('visibilitychange', hide);
			try {
				const r = await fetch(`${systemURL}logs?name=${encodeURIComponent(f.name)}&namespace=${encodeURIComponent(f.namespace)}&follow=true${since}`, {signal: call.signal});
				if (!r.ok) throw new Error(await r.text());
				await read(r.body, l => !seen.delete(l.replica + l.text));
				wait = 500;
			} catch (e) {
				if (mine.signal.aborted || closed) return;
				if (!document.hidden) text(state, 'Interrupted; trying again');
			}
			document.removeEventListener('visibilitychange', hide);
			await new Promise(done => setTimeout(done, wait));
		}
	}

	async function read(stream, fresh) {
		const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
		for (let rest = ''; ;) {
			const {done, value} = await reader.read();
			if (done) return;
			const parts = (rest + value).split('\n');
			rest = parts.pop();
			for (const part of parts) {
				const m = JSON.parse(part), l = {at: m.timestamp, replica: m.instance, text: m.text};
				if (fresh(l)) pending.push(l);
			}
			if (pending.length) frame ||= setTimeout(() => { frame = requestAnimationFrame(flush); }, 100); // a flood is taken in gulps
		}
	}

	tell();
	open();
	return {close() { closed = true; abort?.abort(); clearTimeout(frame); cancelAnimationFrame(frame); }};
}
