// Calling a function, by hand.
import {h, icon, text, field, command, copyButton, store} from './dom.js';
import {pairs} from './fields.js';
import {answer, failure} from './answer.js';
import {seconds, ago} from './format.js';
import {methods, templates, contentType, faults, address, headersOf, curl, faasCLI} from './request.js';

const kinds = {none: 'None', text: 'Text', json: 'JSON', file: 'File'};
const remembered = 20, longest = 4000; // requests in the history, and characters of a body there

/** drafts keep what was typed while other tabs are shown. */
const drafts = new Map();

export function invoke(pane, f) {
	const key = 'calls.' + f.id;
	const q = drafts.get(f.id) ?? {method: 'POST', path: '/', query: '', headers: [], kind: 'text', body: '', file: null, credentials: false};
	drafts.set(f.id, q);

	const method = h('select', {onchange: () => { q.method = method.value; check(); }}, methods.map(m => h('option', {}, m)));
	const path = h('input', {type: 'text', spellcheck: 'false', autocapitalize: 'off', oninput: () => { q.path = path.value || '/'; check(); }});
	const query = h('input', {type: 'text', spellcheck: 'false', autocapitalize: 'off', placeholder: 'name=Ada&n=2', oninput: () => { q.query = query.value; check(); }});
	const headers = pairs('Header', 'Name', 'Value', () => { q.headers = headers.list(); check(); });
	const body = h('textarea', {rows: 8, spellcheck: 'false', 'aria-label': 'Body', oninput: () => { q.body = body.value; check(); }});
	const file = h('input', {type: 'file', 'aria-label': 'File', onchange: () => { q.file = file.files[0] ?? null; check(); }});
	const kind = h('fieldset', {class: 'choice'}, h('legend', {}, 'Body'), Object.entries(kinds).map(([k, name]) =>
		h('label', {}, h('input', {type: 'radio', name: 'kind', value: k, onchange: () => { q.kind = k; check(); }}), h('span', {}, name))));
	const credentials = h('input', {type: 'checkbox', onchange: () => { q.credentials = credentials.checked; }});
	const template = h('select', {onchange: () => {
		const make = templates[template.value][1];
		if (make) Object.assign(q, {query: '', headers: []}, make(f));
		template.value = '';
		fill();
	}}, Object.entries(templates).map(([k, [name]]) => h('option', {value: k}, name)));
	const send = h('button', {type: 'submit', class: 'primary'}, icon('play'), 'Invoke');
	const cancel = h('button', {type: 'button', hidden: true, onclick: () => abort?.abort()}, 'Cancel');
	const fields = {path: field('Path', path), query: field('Query', query)};
	const notes = {body: h('p', {class: 'note', role: 'status'}), headers: h('p', {class: 'note wrong', role: 'status'})};
	const lines = {curl: h('code', {}), cli: h('code', {})};
	const cli = h('div', {class: 'copyable'}, h('span', {class: 'note'}, 'faas-cli'), lines.cli, copyButton('Copy the faas-cli line', () => lines.cli.textContent));
	const result = h('section', {class: 'panel result', 'aria-live': 'polite'}, h('h2', {}, 'Answer'), h('p', {class: 'note'}, 'Nothing was sent yet.'));
	const past = h('section', {class: 'panel'});
	const form = h('form', {class: 'panel', onsubmit: e => { e.preventDefault(); go(); }, onkeydown: e => { if (e.key === 'Enter' && (e.ctrlKey || e.metaKey) && !send.disabled) { e.preventDefault(); go(); } }},
		h('div', {class: 'head'}, h('h2', {}, 'Request'), h('label', {class: 'inline'}, h('span', {class: 'away'}, 'Template'), template)),
		h('div', {class: 'request'}, field('Method', method), fields.path, fields.query),
		h('h3', {}, 'Headers'), headers, notes.headers,
		kind, body, file, notes.body,
		h('label', {class: 'inline'}, credentials, h('span', {}, 'Send my sign-in for this site along (the function sees it)')),
		h('div', {class: 'actions start'}, send, cancel, h('span', {class: 'note wide-only'}, 'Ctrl + Enter')));
	const terminal = h('section', {class: 'panel'}, h('h2', {}, 'The same from a terminal'),
		h('div', {class: 'copyable'}, h('span', {class: 'note'}, 'curl'), lines.curl, copyButton('Copy the curl line', () => lines.curl.textContent)), cli);
	pane.append(h('div', {class: 'split calls'}, form, h('div', {}, result, past), terminal));

	let abort, closed = false;

	function fill() {
		method.value = q.method;
		path.value = q.path;
		query.value = q.query;
		body.value = q.body;
		credentials.checked = q.credentials;
		headers.set(q.headers);
		check();
	}

	function check() {
		for (const radio of kind.querySelectorAll('input')) radio.checked = radio.value === q.kind;
		body.hidden = q.kind !== 'text' && q.kind !== 'json';
		file.hidden = q.kind !== 'file';
		const wrong = faults(q);
		fields.path.blame(wrong.path);
		text(notes.headers, wrong.headers ?? '');
		text(notes.body, wrong.body ?? (q.kind === 'none' ? '' : 'Content-Type: ' + headersOf(q).find(([n]) => n.toLowerCase() === 'content-type')[1]));
		notes.body.classList.toggle('wrong', !!wrong.body && (q.kind !== 'file' || !!q.file));
		send.disabled = !!abort || Object.keys(wrong).length > 0;
		command(lines.curl, curl(f, q));
		const line = faasCLI(f, q);
		cli.hidden = !line;
		command(lines.cli, line);
	}

	async function go() {
		const sent = {...q, headers: [...q.headers]};
		abort = new AbortController();
		cancel.hidden = false;
		check();
		const began = performance.now(), running = h('p', {class: 'note running'});
		const tick = setInterval(() => text(running, `Waiting: ${seconds((performance.now() - began) / 1000)}`), 100);
		text(running, f.desired === 0 ? 'Waking the function…' : 'Waiting…');
		result.replaceChildren(h('h2', {}, 'Answer'), running);
		if (result.getBoundingClientRect().top > innerHeight - 120) result.scrollIntoView({block: 'start'}); // it is below the form on a phone
		const call = {at: Date.now(), ...sent, file: undefined, fileName: sent.file?.name};
		try {
			const r = await fetch(address(f, sent), {
				method: sent.method, headers: headersOf(sent), signal: abort.signal, cache: 'no-store',
				body: {none: undefined, file: sent.file}[sent.kind] ?? (sent.kind === 'none' ? undefined : sent.body),
				redirect: 'manual', credentials: sent.credentials ? 'same-origin' : 'omit',
			});
			const first = performance.now() - began, bytes = await r.blob(), took = performance.now() - began;
			Object.assign(call, {status: r.status, took});
			if (!closed) result.replaceChildren(...answer(f, r, bytes, {first, took}));
		} catch (e) {
			Object.assign(call, {status: 0, took: performance.now() - began});
			if (!closed) result.replaceChildren(...failure(e));
		}
		clearInterval(tick);
		abort = undefined;
		cancel.hidden = true;
		remember(call);
		if (!closed) { check(); history(); }
	}

	function remember(call) {
		if (call.body?.length > longest) call.body = call.body.slice(0, longest);
		call.headers = call.headers.filter(([n]) => !/^(authorization|cookie|.*(token|key|secret|signature).*)$/i.test(n));
		if (call.kind === 'none' || call.kind === 'file') delete call.body;
		store.set(key, [call, ...store.get(key, [])].slice(0, remembered));
	}

	function history() {
		const calls = store.get(key, []);
		past.hidden = calls.length === 0;
		past.replaceChildren(h('div', {class: 'head'}, h('h2', {}, 'History'), h('button', {type: 'button', class: 'quiet', onclick: () => { store.drop(key); history(); }}, 'Clear')),
			h('p', {class: 'note'}, 'Kept in this browser only, without credentials in headers.'),
			h('ul', {class: 'history'}, calls.map(c => h('li', {}, h('button', {type: 'button', class: 'quiet', onclick: () => again(c)},
				h('span', {class: 'status ' + (c.status >= 200 && c.status < 400 ? 'good' : 'bad')}, c.status ? String(c.status) : '–'),
				h('code', {}, `${c.method} ${c.path}${c.query && '?' + c.query}`), h('span', {class: 'note'}, `${seconds(c.took / 1000)} · ${ago(c.at)}`))))));
	}

	function again(c) {
		Object.assign(q, {method: c.method, path: c.path, query: c.query, headers: c.headers, kind: c.kind, body: c.body ?? '', file: null});
		file.value = '';
		fill();
		form.scrollIntoView({block: 'nearest'});
	}

	fill();
	history();
	return {update(now) { f = now; }, close() { closed = true; abort?.abort(); }};
}
