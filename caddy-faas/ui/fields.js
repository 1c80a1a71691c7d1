// Lists of names and values in forms.
import {h, iconButton, icon} from './dom.js';

/** pairs edits names with values. list() returns those that were begun; set() replaces them. */
export function pairs(what, nameLabel, valueLabel, onchange) {
	const rows = h('div', {class: 'rows'});
	const e = h('div', {class: 'pairs-edit'}, rows,
		h('button', {type: 'button', class: 'quiet', onclick: () => { add('', '').querySelector('input').focus(); }}, icon('plus'), 'Add ' + what.toLowerCase()));
	function add(name, value) {
		const n = h('input', {type: 'text', value: name, placeholder: nameLabel, 'aria-label': `${what}: ${nameLabel}`, spellcheck: 'false', autocapitalize: 'off', oninput: onchange, onpaste: paste});
		const v = h('textarea', {rows: 1, value, placeholder: valueLabel, 'aria-label': `${what}: ${valueLabel}`, spellcheck: 'false', oninput: onchange});
		const row = h('div', {class: 'pair'}, n, v, iconButton('close', 'Remove this ' + what.toLowerCase(), () => { row.remove(); onchange(); }));
		row.read = () => [n.value.trim(), v.value];
		rows.append(row);
		return row;
	}
	/** paste takes lines of NAME=VALUE apart. */
	function paste(event) {
		const lines = event.clipboardData.getData('text').trim().split(/\r?\n/);
		if (event.target.value || !lines.every(l => /^[^\s=:]+\s*[=:]/.test(l))) return;
		event.preventDefault();
		event.target.closest('.pair').remove();
		for (const l of lines) add(...l.match(/^([^\s=:]+)\s*[=:]\s*(.*)$/).slice(1));
		onchange();
	}
	e.list = () => [...rows.children].map(r => r.read()).filter(([n, v]) => n || v);
	e.set = list => { rows.replaceChildren(); for (const [n, v] of list) add(n, v); };
	return e;
}

/** twice is a name that a list has twice. */
export function twice(list) {
	const seen = new Set();
	for (const [name] of list) {
		if (seen.has(name)) return name;
		seen.add(name);
	}
	return '';
}
