// Building the document. Text only ever becomes text: nothing here parses markup.

const SVG = 'http://www.w3.org/2000/svg';

/** h makes an element: properties that begin with "on" are listeners, "class" and those with a dash are attributes. */
export function h(tag, props, ...children) {
	return fill(document.createElement(tag), props, children);
}

/** s makes an element of SVG. */
export function s(tag, props, ...children) {
	return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(e, props, children) {
	for (const [name, value] of Object.entries(props ?? {})) {
		if (value === undefined || value === null || value === false) continue;
		if (name.startsWith('on')) e.addEventListener(name.slice(2), value);
		else if (name === 'value' || name === 'checked') e[name] = value;
		else e.setAttribute(name, value === true ? '' : value);
	}
	e.append(...children.flat(Infinity).filter(c => c !== undefined && c !== null && c !== false));
	return e;
}

/** text sets an element's text, if it is another one: a selection survives. */
export function text(e, value) {
	if (e.textContent !== value) e.textContent = value;
}

/** attribute sets an attribute, if it is another one. */
export function attribute(e, name, value) {
	if (e.getAttribute(name) !== value) e.setAttribute(name, value);
}

const icons = {
	play: 'M7 5l11 7-11 7z',
	copy: 'M9 9h10v11H9zM5 15V4h10',
	trash: 'M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5',
	plus: 'M12 5v14M5 12h14',
	close: 'M6 6l12 12M18 6L6 18',
	sun: 'M12 8a4 4 0 100 8 4 4 0 000-8M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.500 1.500M17.500 17.500L19 19M5 19l1.500-1.500M17.500 6.500L19 5',
	moon: 'M20 14.500A8.500 8.500 0 019.500 4 8.500 8.500 0 1020 14.500z',
	auto: 'M4 5h16v11H4zM9 20h6M12 16v4',
	down: 'M12 4v11M7 11l5 5 5-5M5 20h14',
	eye: 'M2 12s4-7 10-7 10 7 10 7-4 7-10 7-10-7-10-7zM12 9a3 3 0 100 6 3 3 0 000-6',
	search: 'M11 4a7 7 0 100 14 7 7 0 000-14M16 16l5 5',
	edit: 'M4 20l1-4L16 5l3 3L8 19z',
};

/** icon draws one of the icons; what it means must be said beside it. */
export function icon(name) {
	return s('svg', {class: 'i', viewBox: '0 0 24 24', 'aria-hidden': 'true'}, s('path', {d: icons[name]}));
}

/** iconButton is a button that shows only an icon and is named by a label. */
export function iconButton(name, label, onclick, props) {
	return h('button', {type: 'button', class: 'icon', 'aria-label': label, title: label, onclick, ...props}, icon(name));
}

/** badge shows a state by color and word. */
export function badge(kind, word) {
	return h('span', {class: 'badge ' + kind}, word);
}

/** toast says something in passing. */
export function toast(message, kind = '') {
	const e = h('div', {class: 'toast ' + kind}, message);
	document.getElementById('toasts').append(e);
	setTimeout(() => e.remove(), kind === 'bad' ? 12000 : 5000);
}

/** copyButton copies what value() returns. */
export function copyButton(label, value) {
	return iconButton('copy', label, async () => {
		try {
			await navigator.clipboard.writeText(value());
			toast('Copied');
		} catch {
			toast('The browser does not allow copying here. It does over HTTPS and on localhost.', 'bad');
		}
	});
}

/** confirm asks before something that can't be undone. */
export function confirm(title, message, action) {
	return new Promise(resolve => {
		const close = answer => { dialog.close(); dialog.remove(); resolve(answer); };
		const dialog = h('dialog', {'aria-labelledby': 'ask', oncancel: e => { e.preventDefault(); close(false); }},
			h('h2', {id: 'ask'}, title), h('p', {}, message),
			h('div', {class: 'actions'},
				h('button', {type: 'button', onclick: () => close(false)}, 'Cancel'),
				h('button', {type: 'button', class: 'danger', onclick: () => close(true)}, action)));
		document.body.append(dialog);
		dialog.showModal();
	});
}

/** field is a labelled control with room for a hint and an error. */
export function field(label, control, hint) {
	const id = control.id || 'f' + ++fields;
	control.id = id;
	control.setAttribute('aria-describedby', id + '-note');
	const note = h('span', {class: 'note', id: id + '-note'}, hint ?? '');
	const wrap = h('div', {class: 'field'}, h('label', {for: id}, label), control, note);
	wrap.control = control;
	/** blame shows what is wrong, or that nothing is. */
	wrap.blame = message => {
		wrap.classList.toggle('wrong', !!message);
		if (message) control.setAttribute('aria-invalid', 'true');
		else control.removeAttribute('aria-invalid');
		text(note, message || hint || '');
	};
	return wrap;
}
let fields = 0;

/** parted is a text that may wrap after what parts an address. */
export const parted = s => s.split(/(?<=[/@])(?![/@])/).flatMap(part => [h('wbr'), part]);

/** command shows a line for a shell, which wraps between its words if it can. */
export function command(e, line) {
	if (e.textContent !== line) e.replaceChildren(...line.split(/(\s+)/).map((part, i) => i % 2 ? part : h('span', {class: 'word'}, parted(part))));
}

/** download offers bytes as a file. */
export function download(blob, name) {
	const url = URL.createObjectURL(blob);
	h('a', {href: url, download: name}).click();
	setTimeout(() => URL.revokeObjectURL(url), 60000);
}

/** store keeps small things in the browser, where it lets us. */
export const store = {
	get(key, absent) {
		try { return JSON.parse(localStorage.getItem('faas.' + key)) ?? absent; } catch { return absent; }
	},
	set(key, value) {
		try { localStorage.setItem('faas.' + key, JSON.stringify(value)); } catch { /* full or off */ }
	},
	drop(key) {
		try { localStorage.removeItem('faas.' + key); } catch { /* off */ }
	},
};
