// What the gateway tells: everything once, then changes as they are seen. Where
// event streams don't get through, everything again every few seconds.

import {at} from './api.js';

/** live is the state of the gateway as it was last heard of. */
export const live = {functions: new Map(), events: [], system: null, link: 'connecting'};

const listeners = new Set();
const patience = 8000; // without any word from a new stream, it is taken not to get through
const pollEvery = 2000;

/** listen calls f({functions: Set of changed ids, events: whether there are new ones, all}) until the returned function is called. */
export function listen(f) {
	listeners.add(f);
	return () => listeners.delete(f);
}

function tell(change) {
	for (const f of [...listeners]) f(change);
}

function setLink(link) {
	if (live.link === link) return;
	live.link = link;
	tell({functions: new Set(), events: false, link: true});
}

let position = '';

function take(c) {
	const changed = new Set(), all = !!c.system;
	if (all) {
		const now = new Set(c.functions.map(f => f.id));
		for (const id of live.functions.keys()) if (!now.has(id)) { live.functions.delete(id); changed.add(id); }
		live.system = c.system;
		live.events = [];
	}
	for (const f of c.functions) { live.functions.set(f.id, f); changed.add(f.id); }
	for (const id of c.removed ?? []) { live.functions.delete(id); changed.add(id); }
	const known = new Map(live.events.map(e => [e.seq, e]));
	for (const e of c.events) known.set(e.seq, e);
	live.events = [...known.values()];
	for (const e of c.events) {
		// One that came again has a new number and stands for the earlier ones too.
		if (e.count > 1) live.events = live.events.filter(o => o.seq === e.seq || o.function !== e.function || o.kind !== e.kind || o.text !== e.text && e.kind !== 'failing' || o.count >= e.count);
	}
	live.events.sort((a, b) => b.seq - a.seq);
	live.events.length = Math.min(live.events.length, 200);
	position = c.position;
	tell({functions: changed, events: c.events.length > 0 || all, fresh: c.events, all});
}

async function fetchState() {
	const r = await fetch(at('state'), {headers: {Accept: 'application/json'}});
	if (!r.ok) throw Object.assign(new Error(r.status + ' ' + r.statusText), {status: r.status});
	take(await r.json());
}

/** whileHidden resolves once the page can be seen. Hidden pages hold no connections: over HTTP/1 browsers have six for all tabs together. */
export async function whileHidden() {
	while (document.hidden) await new Promise(done => document.addEventListener('visibilitychange', done, {once: true}));
}

const sleep = ms => new Promise(done => setTimeout(done, ms));

/** stream resolves once the stream has ended for good: to whether anything ever came through. */
function stream() {
	return new Promise(done => {
		let heard = false, lost;
		const source = new EventSource(at('events?after=' + encodeURIComponent(position)));
		const silent = setTimeout(() => end(), patience);
		const hide = () => { if (document.hidden) end(); };
		document.addEventListener('visibilitychange', hide);
		const end = () => { document.removeEventListener('visibilitychange', hide); clearTimeout(silent); clearTimeout(lost); source.close(); done(heard || document.hidden); };
		source.onopen = () => {
			heard = true;
			clearTimeout(silent);
			lost = clearTimeout(lost);
			setLink('live');
		};
		source.onmessage = e => take(JSON.parse(e.data));
		source.onerror = () => {
			if (source.readyState === EventSource.CLOSED) return end();
			// A reload of the configuration takes less than this.
			lost ??= setTimeout(() => { setLink('reconnecting'); end(); }, 1500);
		};
	});
}

/** poll asks until asking fails, for at most a minute. */
async function poll() {
	for (const until = Date.now() + 60000; Date.now() < until; await sleep(pollEvery)) {
		await whileHidden();
		await fetchState();
		setLink('polling');
	}
}

/** begin keeps live up to date for as long as the page is there. */
export async function begin() {
	let deaf = 0; // streams in a row that brought nothing
	for (let wait = 500; ; wait = Math.min(wait * 1.5, 5000)) {
		try {
			await fetchState();
			wait = 500;
			await whileHidden();
			deaf = await stream() ? 0 : deaf + 1;
			if (deaf > 0) await poll();
		} catch (e) {
			setLink(e.status === 401 || e.status === 403 ? 'refused' : 'reconnecting');
		}
		await sleep(wait);
	}
}
