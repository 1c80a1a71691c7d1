// What a function answered: as text, JSON, HTML, an image or a file.
import {h, icon, badge, download} from './dom.js';
import {seconds, bytes} from './format.js';

/** why the platform answered in the function's place, by X-Faas-Reason. */
const reasons = {
	'queue-full': 'As many requests wait for the function as may.', 'cold-start-timeout': 'No replica became ready in time.',
	limit: 'Every replica had as many requests as it takes, for as long as this one could wait.', 'start-failed': 'Its replicas fail to start: the function’s state and logs tell why.',
	'no-capacity': 'There is no room for a replica.', unreachable: 'Its replicas refuse connections.', 'connection-lost': 'The replica broke off before it answered.',
};

const shownAtMost = 1 << 20; // characters

/** answer shows a response. times are in milliseconds: until its headers came, and until its end. */
export function answer(f, r, body, times) {
	if (r.type === 'opaqueredirect') {
		return [h('h2', {}, 'Answer'), h('p', {class: 'banner warn'}, 'The function answered with a redirect, which goes to the caller. Browsers hide its status and target from pages: the curl line shows them.')];
	}
	const type = (r.headers.get('Content-Type') ?? '').toLowerCase();
	const kind = r.status < 300 ? 'good' : r.status < 400 ? 'idle' : 'bad';
	const reason = r.headers.get('X-Faas-Reason');
	const view = h('div', {class: 'body', id: 'answer-body', role: 'tabpanel'});
	const name = f.name + '.' + (f.extension?.replace(/[^a-zA-Z0-9]/g, '') || extension(type));
	const ways = waysOf(r, body, type);
	const tabs = h('div', {class: 'tabs small', role: 'tablist', 'aria-label': 'Show the answer as'});
	const show = async way => {
		for (const b of tabs.children) b.setAttribute('aria-selected', String(b.dataset.way === way));
		view.replaceChildren(await ways[way]());
	};
	tabs.append(...Object.keys(ways).map(way => h('button', {type: 'button', role: 'tab', 'aria-controls': 'answer-body', 'data-way': way, onclick: () => show(way)}, way)));
	const first = f.extension ? 'Text' : ['Image', 'JSON', 'HTML'].find(w => ways[w]) ?? Object.keys(ways)[0];
	show(ways[first] ? first : Object.keys(ways)[0]);
	return [
		h('div', {class: 'head'}, h('div', {class: 'title'}, h('h2', {}, 'Answer'), badge(kind, `${r.status} ${r.statusText}`.trim()), h('span', {class: 'note'}, bytes(body.size))),
			body.size > 0 && h('button', {type: 'button', onclick: () => download(body, name)}, icon('down'), 'Download')),
		reason && h('p', {class: 'banner bad'}, (Object.hasOwn(reasons, reason) ? reasons[reason] + ' ' : '') + `The gateway answered, not the function (${reason}).`),
		timing(r, times), tabs, view,
	].filter(Boolean);
}

/** failure shows that there is no response. */
export function failure(e) {
	return [h('h2', {}, 'Answer'), h('p', {class: 'banner bad'}, e.name === 'AbortError' ? 'Cancelled. The function may still run to its end.' : 'There is no answer: the connection failed or broke off.')];
}

function waysOf(r, body, type) {
	const ways = {}, read = async () => { const t = await body.text(); return t.length > shownAtMost ? t.slice(0, shownAtMost) + '\n… cut: download it to see all' : t; };
	if (/^image\/(png|jpeg|gif|webp|avif|bmp|x-icon|svg)/.test(type)) ways.Image = async () => image(body);
	if (/json/.test(type)) {
		ways.JSON = async () => {
			const t = await read();
			try { return h('pre', {}, JSON.stringify(JSON.parse(t), null, 2)); } catch (e) { return h('div', {}, h('p', {class: 'note'}, 'Its Content-Type says JSON, which it is not: ' + e.message), h('pre', {}, t)); }
		};
	}
	if (/html/.test(type)) ways.HTML = async () => page(await read());
	ways.Text = async () => body.size ? h('pre', {}, await read()) : h('p', {class: 'note'}, 'The body is empty.');
	ways.Headers = async () => h('dl', {class: 'headers'}, [...r.headers].map(([n, v]) => [h('dt', {}, n), h('dd', {}, h('code', {}, v))]));
	return ways;
}

function image(body) {
	const url = URL.createObjectURL(body);
	return h('img', {src: url, alt: 'The answer', class: 'shown', onload: () => URL.revokeObjectURL(url)});
}

/** page shows HTML where it can do nothing: without scripts, forms and whatever it would load. */
function page(html) {
	const frame = h('iframe', {title: 'The answer as a page', sandbox: 'allow-scripts', src: new URL('preview.html', import.meta.url).href});
	frame.addEventListener('load', () => frame.contentWindow.postMessage(html, '*'), {once: true});
	return frame;
}

const extensions = {json: 'json', html: 'html', png: 'png', jpeg: 'jpg', gif: 'gif', svg: 'svg', csv: 'csv', pdf: 'pdf', xml: 'xml', zip: 'zip', text: 'txt'};
const extension = type => Object.entries(extensions).find(([word]) => type.includes(word))?.[1] ?? 'bin';

/** timing splits the time by what the answer's headers tell. */
function timing(r, {first, took}) {
	const header = n => { const v = parseFloat(r.headers.get(n)); return v > 0 ? v : 0; };
	const cold = Math.min(header('X-Faas-Cold-Start'), first), run = Math.min(header('X-Duration-Seconds') * 1000, first - cold);
	const parts = [['cold', 'Cold start', cold], ['run', 'Execution', run], ['rest', run || cold ? 'Queue and network' : 'Until the first byte', Math.max(0, first - cold - run)], ['body', 'Body', took - first]].filter(([, , ms]) => ms > 0);
	const bar = h('div', {class: 'split-bar', 'aria-hidden': 'true'}, parts.map(([kind, , ms]) => { const e = h('i', {class: kind}); e.style.flexGrow = String(ms); return e; }));
	return h('div', {class: 'timing'}, h('p', {}, h('b', {}, seconds(took / 1000)), ' in all'), bar,
		h('ul', {class: 'legend'}, parts.map(([kind, name, ms]) => h('li', {class: kind}, `${name} ${seconds(ms / 1000)}`))));
}
