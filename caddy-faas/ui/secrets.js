// Secrets: names are shown, values only ever go in.
import {h, badge, icon, field, text, toast, confirm} from './dom.js';
import {live, listen} from './live.js';
import {ask, json} from './api.js';

const nameForm = /^[a-zA-Z0-9]([-_.a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$/;

export function secrets(main) {
	main.append(h('h1', {}, 'Secrets'));
	if (live.system.secrets) return keeper(main);
	main.append(h('p', {class: 'banner warn'}, `The provider ${live.system.provider} keeps no secrets.`));
	return {};
}

function keeper(main) {
	const namespace = h('select', {}, live.system.namespaces.map(n => h('option', {}, n)));
	const name = h('input', {type: 'text', placeholder: 'api-key', spellcheck: 'false', autocapitalize: 'off', autocomplete: 'off'});
	const value = h('textarea', {rows: 3, spellcheck: 'false', autocomplete: 'off', class: 'secret'});
	const file = h('input', {type: 'file'});
	const fields = {namespace: field('Namespace', namespace), name: field('Name', name, 'The function reads it from a file of this name.'), value: field('Value', value, 'Kept exactly as it is typed.'), file: field('Or a file', file, 'Kept byte for byte, up to 500 KiB.')};
	const refusal = h('p', {class: 'banner bad', role: 'alert', hidden: true});
	const save = h('button', {type: 'submit', class: 'primary'}, 'Create');
	const reset = h('button', {type: 'button', hidden: true, onclick: () => choose('')}, 'Cancel');
	const title = h('h2', {}, 'New secret'), kept = h('h2', {}, 'All secrets');
	const form = h('form', {class: 'panel', onsubmit: e => { e.preventDefault(); send(); }, oninput: () => { refusal.hidden = true; check(false); }},
		title, h('div', {class: 'grid'}, fields.name, fields.namespace), fields.value, fields.file, refusal, h('div', {class: 'actions start'}, save, reset));
	const rows = h('tbody', {role: 'rowgroup'});
	const none = h('p', {class: 'note'}, 'There are no secrets in this namespace.');
	const table = h('table', {class: 'plain', role: 'table'}, h('thead', {role: 'rowgroup'}, h('tr', {role: 'row'}, ['Name', 'Used by', ''].map(c => h('th', {role: 'columnheader', scope: 'col'}, c || h('span', {class: 'away'}, 'Actions'))))), rows);
	main.append(h('div', {class: 'split'}, h('section', {class: 'panel'}, kept, table, none), form));
	namespace.addEventListener('change', load);

	let names = [], changing = '', closed = false;

	function check(tried) {
		const n = name.value.trim();
		const wrong = {
			name: n ? (!nameForm.test(n) ? '1 to 63 letters, digits, -, _ or dots, with a letter or digit at both ends.' : !changing && names.includes(n) ? 'There is a secret of this name: change that one.' : '') : tried ? 'A name is needed.' : '',
			value: tried && !value.value && !file.files.length ? 'A value or a file is needed.' : value.value && file.files.length ? 'Either a value or a file.' : '',
			file: file.files[0]?.size > 500 << 10 ? 'More than 500 KiB.' : '',
		};
		for (const [key, message] of Object.entries(wrong)) fields[key].blame(message);
		return !Object.values(wrong).some(Boolean);
	}

	async function load() {
		try {
			names = (await json('secrets?namespace=' + encodeURIComponent(namespace.value))).map(s => s.name);
		} catch (e) {
			names = [];
			toast(e.message, 'bad');
		}
		if (!closed) draw();
	}

	function draw() {
		const users = n => [...live.functions.values()].filter(f => f.namespace === namespace.value && f.secrets?.includes(n));
		rows.replaceChildren(...names.map(n => h('tr', {role: 'row'},
			h('td', {role: 'cell'}, h('code', {}, n)),
			h('td', {role: 'cell'}, users(n).map(f => h('a', {class: 'plainlink', href: '#/f/' + encodeURIComponent(f.id)}, badge('idle', f.name)))),
			h('td', {role: 'cell', class: 'c-act'}, h('button', {type: 'button', class: 'quiet', 'aria-label': 'Change ' + n, onclick: () => choose(n)}, icon('edit'), 'Change'),
				h('button', {type: 'button', class: 'quiet danger', 'aria-label': 'Delete ' + n, onclick: () => drop(n)}, icon('trash'), 'Delete')))));
		if (namespace.options.length > 1) text(kept, 'Secrets in ' + namespace.value);
		table.hidden = names.length === 0;
		none.hidden = names.length > 0;
	}

	function choose(n) {
		changing = n;
		name.value = n;
		value.value = file.value = '';
		name.disabled = !!n;
		namespace.disabled = !!n;
		reset.hidden = !n;
		refusal.hidden = true;
		text(title, n ? 'Change ' + n : 'New secret');
		text(save, n ? 'Save' : 'Create');
		check(false);
		(n ? value : name).focus();
	}

	async function send() {
		if (!check(true)) return;
		save.disabled = true;
		const n = name.value.trim(), body = {name: n, namespace: namespace.value};
		try {
			if (file.files.length) body.rawValue = base64(new Uint8Array(await file.files[0].arrayBuffer()));
			else body.value = value.value;
			await ask(changing ? 'PUT' : 'POST', 'secrets', body);
			toast(`${n} is ${changing ? 'changed; functions that use it are renewed' : 'created'}`);
			choose('');
			load();
		} catch (e) {
			refusal.hidden = false;
			text(refusal, e.message);
		}
		save.disabled = false;
	}

	async function drop(n) {
		if (!await confirm(`Delete ${n}?`, 'Its value is gone then; this can’t be undone.', 'Delete')) return;
		try {
			await ask('DELETE', 'secrets', {name: n, namespace: namespace.value});
			toast(`${n} is deleted`);
			if (changing === n) choose('');
		} catch (e) {
			toast(e.message, 'bad');
		}
		load();
	}

	const stop = listen(c => { if (c.functions.size) draw(); });
	load();
	return {close() { closed = true; stop(); }};
}

function base64(bytes) {
	let s = '';
	for (let i = 0; i < bytes.length; i += 0x8000) s += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
	return btoa(s);
}
