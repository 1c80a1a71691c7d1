// The gateway itself: what it is, how it is, what happened.
import {h, badge, text} from './dom.js';
import {live, listen, whileHidden} from './live.js';
import {tile} from './chart.js';
import {count, rate, bytes, moment, ago, name, progress, arrows} from './format.js';
import {at, systemURL} from './api.js';

export function system(main) {
	const tiles = {functions: tile('Functions'), replicas: tile('Replicas ready'), work: tile('In flight'), queued: tile('Queued'), rate: tile('Rate'), cold: tile('Cold starts')};
	const about = h('dl', {}), health = badge('idle', 'Checking'), links = h('ul', {class: 'links'});
	const busy = h('div', {}), events = h('div', {});
	const nodes = h('section', {class: 'panel', hidden: true}), gateways = h('section', {class: 'panel', hidden: true});
	const only = h('input', {type: 'checkbox', onchange: draw});
	main.append(h('h1', {}, 'System'), h('div', {class: 'tiles'}, Object.values(tiles)),
		h('div', {class: 'columns'},
			h('div', {class: 'wide'}, nodes, gateways, h('section', {class: 'panel'}, h('div', {class: 'head'}, h('h2', {}, 'Recent events'), h('label', {class: 'inline'}, only, h('span', {}, 'Failures only'))), events)),
			h('div', {class: 'side'}, h('section', {class: 'panel'}, h('div', {class: 'head'}, h('h2', {}, 'Gateway'), health), about),
				h('section', {class: 'panel'}, h('h2', {}, 'Scaling now'), busy),
				h('section', {class: 'panel'}, h('h2', {}, 'More'), links))));

	let closed = false, timer, later;

	async function check() {
		try {
			const r = await fetch(at('../healthz'), {cache: 'no-store'}), ok = r.ok;
			if (r.status === 404) health.hidden = true;
			health.className = 'badge ' + (ok ? 'good' : 'bad');
			text(health, ok ? 'Healthy' : 'Provider does not answer');
		} catch {
			health.className = 'badge bad';
			text(health, 'Unreachable');
		}
		if (!closed) timer = setTimeout(check, 10000);
	}

	/** round tells of the nodes, and of the other gateways, who are asked while somebody looks. */
	async function round() {
		await whileHidden();
		try {
			const r = await fetch(at('cluster'), {cache: 'no-store'});
			if (r.ok && !closed) cluster(await r.json());
		} catch { /* the next one may come through */ }
		if (!closed) later = setTimeout(round, 3000);
	}

	function cluster(c) {
		nodes.hidden = !c.nodes?.length && !c.problem;
		const roles = c.nodes?.some(n => n.role), reserves = c.nodes?.some(n => n.reservedCPU || n.reservedMemory);
		nodes.replaceChildren(h('h2', {}, 'Nodes'), c.problem ? h('p', {class: 'banner bad'}, c.problem) : table(['Node', roles && 'Role', 'State', 'Replicas', 'CPU', 'Memory', reserves && 'Reserved'], (c.nodes ?? []).map(n => [
			h('b', {}, n.name), roles && capital(n.role), badge(...n.state !== 'ready' ? ['bad', capital(n.state)] : availabilities[n.availability] ?? ['busy', capital(n.availability)]),
			count(n.replicas), n.cpu ? cores(n.cpu) : '–', n.memory ? bytes(n.memory) : '–', reserves && ([n.reservedCPU && cores(n.reservedCPU), n.reservedMemory && bytes(n.reservedMemory)].filter(Boolean).join(', ') || '–'),
		])));
		gateways.hidden = c.gateways.length < 2;
		gateways.replaceChildren(h('h2', {}, 'Gateways'), table(['Gateway', 'State', 'Last heard', 'Scales down'], c.gateways.map(g => [
			[h('b', {}, g.host || g.address), h('span', {class: 'note'}, [g.self && 'this one', g.host && g.address].filter(Boolean).join(' · ')), g.problem && h('span', {class: 'note wrong'}, g.problem)],
			badge(...gatewayStates[g.state]), g.self ? '' : g.heard ? ago(g.heard) : 'never', g.owns ? count(g.owns) + (g.owns === 1 ? ' function' : ' functions') : '–',
		])));
	}

	/** link shows an address if there is something. */
	async function link(url, label, note) {
		const item = h('li', {hidden: true}, h('a', {href: url, target: '_blank', rel: 'noopener'}, label), h('span', {class: 'note'}, note));
		links.append(item);
		try {
			const r = await fetch(url);
			item.hidden = !r.ok;
			r.body?.cancel();
		} catch { /* not there */ }
	}

	function draw(change) {
		const s = live.system, all = [...live.functions.values()], total = key => all.reduce((t, f) => t + f[key], 0);
		tiles.functions.set(count(all.length));
		tiles.replicas.set(`${count(total('ready'))} / ${count(total('desired'))}`);
		tiles.work.set(count(total('inFlight')));
		tiles.queued.set(count(total('queued')), '', total('queued') ? 'warn' : '');
		tiles.rate.set(rate(total('rate')) + '/s');
		tiles.cold.set(count(total('coldStarts')));
		if (!about.childElementCount || change?.all) {
			about.replaceChildren(...Object.entries({
				Provider: s.provider, Version: s.release, Revision: s.revision.slice(0, 12), Caddy: s.caddy, Go: s.go, Platform: s.arch,
				Started: `${moment(s.began)}, ${ago(s.began)}`, Namespaces: s.namespaces.join(', '),
			}).filter(([, v]) => v !== 'unknown').flatMap(([k, v]) => [h('dt', {}, k), h('dd', {}, v)]));
		}
		const moving = all.filter(f => f.queued || f.ready !== f.desired || f.state === 'failing' || f.state === 'waiting');
		busy.replaceChildren(moving.length ? h('ul', {class: 'moving'}, moving.slice(0, 50).map(f => h('li', {},
			h('a', {href: '#/f/' + encodeURIComponent(f.id)}, name(f.id)), h('span', {class: 'note'}, (f.job ? progress(f.job) : `${f.ready} of ${f.desired} ready`) + (f.queued ? `, ${count(f.queued)} queued` : '') + (f.reason ? ': ' + f.reason : '')))))
			: h('p', {class: 'note'}, 'Every function has the replicas that it should have, and nothing waits.'));
		if (!change || change.events || change.type) events.replaceChildren(eventList(live.events.filter(e => !only.checked || bad.has(e.kind)), true));
	}

	const stop = listen(draw);
	const begin = () => {
		check();
		round();
		link(at('../metrics'), 'Metrics', 'for Prometheus');
		link(systemURL + 'openapi.yaml', 'API', 'described in OpenAPI');
		link(systemURL + 'functions', 'List of functions', 'as JSON');
	};
	draw();
	begin();
	return {close() { closed = true; clearTimeout(timer); clearTimeout(later); stop(); }};
}

const cores = milli => `${milli / 1000} ${milli === 1000 ? 'core' : 'cores'}`;
const capital = word => word[0].toUpperCase() + word.slice(1);
const availabilities = {active: ['good', 'Ready'], pause: ['busy', 'Paused'], drain: ['busy', 'Drained']};
const gatewayStates = {heard: ['good', 'Up'], asked: ['busy', 'Asked'], silent: ['bad', 'Silent'], ended: ['idle', 'Ended']};

/** table is a small one; on phones each row is a block. Columns without a name are left out. */
function table(names, rows) {
	return h('table', {class: 'plain', role: 'table'},
		h('thead', {role: 'rowgroup'}, h('tr', {role: 'row'}, names.filter(Boolean).map(n => h('th', {role: 'columnheader', scope: 'col'}, n)))),
		h('tbody', {role: 'rowgroup'}, rows.map(cells => h('tr', {role: 'row'}, cells.map((c, i) => names[i] && h('td', {role: 'cell', 'data-name': names[i]}, c))))));
}

const bad = new Set(['failing', 'failed', 'refused']);
const words = {deployed: 'Deployed', updated: 'Updated', removed: 'Removed', scaled: 'Scaled', ready: 'Ready', failing: 'Failing', failed: 'Failed', refused: 'Refused'};

/** eventList shows events, the newest first. */
export function eventList(events, named) {
	if (!events.length) return h('p', {class: 'note'}, 'Nothing happened since the gateway started.');
	return h('ul', {class: 'events'}, events.map(e => h('li', {},
		h('time', {datetime: e.time, title: ago(e.time)}, moment(e.time)),
		badge(bad.has(e.kind) ? 'bad' : e.kind === 'ready' ? 'good' : 'idle', words[e.kind] ?? e.kind),
		named && (live.functions.has(e.function) ? h('a', {href: '#/f/' + encodeURIComponent(e.function)}, name(e.function)) : h('span', {}, name(e.function))),
		h('span', {class: 'what'}, arrows(e.text ?? ''), e.count > 1 && h('b', {}, ` × ${count(e.count)}`)))));
}
