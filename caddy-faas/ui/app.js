// The frame: navigation, the link to the gateway, the color scheme.
import {h, icon, text, attribute} from './dom.js';
import {live, listen, begin} from './live.js';
import {list} from './list.js';
import {functionView} from './function.js';
import {deploy} from './deploy.js';
import {secrets} from './secrets.js';
import {system} from './system.js';

const views = {'': list, f: functionView, deploy, secrets, system};
const places = [['', 'Functions'], ['deploy', 'Deploy'], ['secrets', 'Secrets'], ['system', 'System']];

const main = document.getElementById('main');
const nav = document.getElementById('nav');
nav.append(...places.map(([to, name]) => h('a', {href: '#/' + to}, name)));

let shown, path;

/** show opens the view that the address names: #/VIEW/ARGUMENT/… */
function show() {
	if (!live.system) {
		main.replaceChildren(h('p', {class: 'note', role: 'status'}, 'Loading…'));
		return;
	}
	const [view, ...rest] = location.hash.replace(/^#\/?/, '').split('/');
	const args = rest.map(a => { try { return decodeURIComponent(a); } catch { return a; } });
	const to = Object.hasOwn(views, view) ? view : '';
	const same = shown?.stay?.(to, args);
	if (!same) {
		shown?.close?.();
		main.replaceChildren();
		shown = views[to](main, args);
		window.scrollTo(0, 0);
		if (path !== undefined) main.focus({preventScroll: true}); // the keyboard starts from the new view
	}
	path = location.hash;
	const heading = main.querySelector('h1')?.textContent;
	document.title = (heading ? heading + ' · ' : '') + 'caddy-faas';
	for (const a of nav.children) {
		if (a.getAttribute('href') === '#/' + (to === 'f' ? '' : to)) a.setAttribute('aria-current', 'page');
		else a.removeAttribute('aria-current');
	}
}

const links = {
	connecting: ['busy', 'Connecting'], live: ['good', 'Live'], polling: ['idle', 'Polling'],
	reconnecting: ['bad', 'Reconnecting'], refused: ['bad', 'Signed out: load again'],
};

function showLink() {
	const [kind, word] = links[live.link];
	const e = document.getElementById('link');
	attribute(e, 'class', 'link ' + kind);
	text(e, word);
}

const schemes = {auto: ['auto', 'as the system'], light: ['sun', 'light'], dark: ['moon', 'dark']};

function scheme(next) {
	const root = document.documentElement;
	let now = root.dataset.theme ?? 'auto';
	if (next) {
		now = {auto: 'light', light: 'dark', dark: 'auto'}[now];
		if (now === 'auto') delete root.dataset.theme;
		else root.dataset.theme = now;
		try { localStorage.setItem('faas.theme', now); } catch { /* for this page only, then */ }
	}
	const button = document.getElementById('theme');
	button.replaceChildren(icon(schemes[now][0]));
	attribute(button, 'aria-label', 'Colors: ' + schemes[now][1] + '. Change');
	attribute(button, 'title', 'Colors: ' + schemes[now][1]);
}

document.getElementById('theme').addEventListener('click', () => scheme(true));
document.querySelector('.skip').addEventListener('click', e => { e.preventDefault(); main.focus(); });
addEventListener('hashchange', show);
addEventListener('keydown', e => {
	if (e.key !== '/' || e.ctrlKey || e.metaKey || e.altKey || e.target.closest('input, textarea, select, dialog')) return;
	const search = main.querySelector('input[type=search]');
	if (search) { e.preventDefault(); search.focus(); }
});
listen(() => {
	showLink();
	if (live.system && !shown) show();
});
scheme(false);
showLink();
show();
begin();
