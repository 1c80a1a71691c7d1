// One function: its state, and the tabs below it.
import {h, badge, icon, text, attribute, toast, confirm} from './dom.js';
import {live, listen} from './live.js';
import {stateOf} from './format.js';
import {remove} from './api.js';
import {overview} from './overview.js';
import {invoke} from './invoke.js';
import {logs} from './logs.js';
import {edit} from './deploy.js';

const tabs = {'': ['Overview', overview], invoke: ['Invoke', invoke], logs: ['Logs', logs], edit: ['Edit', edit]};

export function functionView(main, [id, tab = '']) {
	const mark = badge('idle', ''), reason = h('p', {class: 'banner', hidden: true});
	const nav = h('nav', {class: 'tabs', 'aria-label': 'Function'}, Object.entries(tabs).map(([key, [name]]) =>
		h('a', {href: `#/f/${encodeURIComponent(id)}${key && '/' + key}`}, name)));
	const pane = h('section', {class: 'pane'});
	const name = h('h1', {}, id.slice(0, id.lastIndexOf('.'))), where = h('span', {class: 'note'}, id.slice(id.lastIndexOf('.') + 1));
	const drop = h('button', {type: 'button', class: 'danger quiet', onclick: discard}, icon('trash'), 'Delete');
	const invokeLink = h('a', {class: 'button primary', href: `#/f/${encodeURIComponent(id)}/invoke`}, icon('play'), 'Invoke');
	main.append(h('p', {class: 'crumbs'}, h('a', {href: '#/'}, 'Functions'), ' / ', where),
		h('div', {class: 'head'}, h('div', {class: 'title'}, name, mark), h('div', {class: 'actions'}, invokeLink, drop)), reason, nav, pane);

	let open, shown; // the tab, and whether there is such a function
	const function_ = () => live.functions.get(id);

	function openTab(key) {
		open?.close?.();
		pane.replaceChildren();
		tab = Object.hasOwn(tabs, key) ? key : '';
		[...nav.children].forEach((a, i) => {
			if (Object.keys(tabs)[i] === tab) a.setAttribute('aria-current', 'page');
			else a.removeAttribute('aria-current');
		});
		shown = !!function_();
		if (shown) open = tabs[tab][1](pane, function_());
		else {
			open = undefined;
			pane.append(h('div', {class: 'empty panel'}, h('h2', {}, 'There is no such function'), h('p', {}, `${id} was removed, or never was.`), h('a', {class: 'button', href: '#/'}, 'All functions')));
		}
	}

	function draw(change) {
		const f = function_();
		if (!!f !== shown) openTab(tab);
		drop.hidden = mark.hidden = nav.hidden = !f;
		invokeLink.hidden = !f || tab === 'invoke' || !!f.job;
		nav.children[1].hidden = !!f?.job; // nobody calls a job
		if (!f) { reason.hidden = true; return; }
		const [kind, word] = stateOf(f);
		attribute(mark, 'class', 'badge ' + kind);
		text(mark, word);
		reason.hidden = !f.reason;
		attribute(reason, 'class', 'banner ' + (f.state === 'failing' ? 'bad' : 'warn'));
		text(reason, f.reason ?? '');
		open?.update?.(f, change);
	}

	async function discard() {
		const f = function_();
		const sure = await confirm(`Delete ${f.name}?`, f.job ? 'A run that has not ended is stopped. Its definition and logs are gone then; this can’t be undone.' : 'Its replicas finish what they are doing and end. Its definition and logs are gone then; this can’t be undone.', 'Delete');
		if (!sure) return;
		drop.disabled = true;
		try {
			await remove(f);
			toast(`${f.name} is deleted`);
			location.hash = '#/';
		} catch (e) {
			toast(e.message, 'bad');
			drop.disabled = false;
		}
	}

	const stop = listen(c => { if (c.all || c.functions.has(id) || c.events) draw(c); });
	openTab(tab);
	draw();
	return {
		close() { stop(); open?.close?.(); },
		/** stay keeps the view for another tab of the same function. */
		stay(view, [other, next = '']) {
			if (view !== 'f' || other !== id) return false;
			openTab(next);
			draw();
			return true;
		},
	};
}
