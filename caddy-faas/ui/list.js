// All functions, live.
import {h, badge, icon, text, attribute, store} from './dom.js';
import {live, listen} from './live.js';
import {spark, tile} from './chart.js';
import {count, rate, seconds, percent, stateOf, progress} from './format.js';

const columns = [
	['name', 'Function', f => f.name.toLowerCase()], ['state', 'State', f => ['failing', 'waiting', 'starting', 'scaling', 'running', 'ready', 'zero', 'done'].indexOf(f.state)],
	['replicas', 'Replicas', f => -f.ready], ['total', 'Invocations', f => -f.total], ['rate', 'Rate, 5 min', f => -f.rate],
	['errors', 'Errors', f => -(f.rate && f.failures / f.rate)], ['p50', 'p50', f => -f.p50], ['p99', 'p99', f => -f.p99],
	['inflight', 'In flight', f => -f.inFlight], ['queued', 'Queued', f => -f.queued],
];

export function list(main) {
	const kept = store.get('list', {});
	const view = {search: '', namespace: kept.namespace ?? '', sort: kept.sort ?? 'name', down: kept.down ?? false, state: ''};
	const rows = new Map(); // id -> row
	const keep = () => store.set('list', {namespace: view.namespace, sort: view.sort, down: view.down});

	const search = h('input', {type: 'search', placeholder: 'Search name, image, command', 'aria-label': 'Search functions', oninput: () => { view.search = search.value.toLowerCase(); draw(); }});
	const namespace = h('select', {'aria-label': 'Namespace', onchange: () => { view.namespace = namespace.value; keep(); draw(); }});
	const order = h('select', {'aria-label': 'Sort by', class: 'narrow', onchange: () => { view.sort = order.value; keep(); draw(); }},
		columns.map(([key, name]) => h('option', {value: key}, 'Sort: ' + name)));
	const only = state => () => { view.state = view.state === state ? '' : state; draw(); };
	const tiles = {
		all: tile('Functions', only('')), ready: tile('Ready', only('ready')), zero: tile('At zero', only('zero')),
		failing: tile('Failing', only('failing')), rate: tile('Rate'), errors: tile('Errors'),
	};
	const head = h('tr', {role: 'row'}, columns.map(([key, name]) =>
		h('th', {role: 'columnheader', class: 'c-' + key, scope: 'col'},
			h('button', {type: 'button', onclick: () => { view.down = view.sort === key && !view.down; view.sort = key; keep(); draw(); }}, name))),
		h('th', {role: 'columnheader', class: 'c-act'}, h('span', {class: 'away'}, 'Actions')));
	const body = h('tbody', {role: 'rowgroup'});
	const table = h('table', {class: 'functions panel', role: 'table', 'aria-label': 'Functions'}, h('thead', {role: 'rowgroup'}, head), body);
	const empty = h('div', {class: 'empty panel', hidden: true});
	const shown = h('span', {class: 'note', role: 'status'});
	const add = h('a', {class: 'button primary', href: '#/deploy'}, icon('plus'), 'Deploy a function');
	const numbers = h('div', {class: 'tiles'}, Object.values(tiles));
	const tools = h('div', {class: 'tools'}, h('span', {class: 'search'}, icon('search'), search), h('span', {class: 'picks'}, namespace, order), shown);
	main.append(h('div', {class: 'head'}, h('h1', {}, 'Functions'), add), numbers, tools, table, empty);

	function namespaces() {
		const all = [...new Set([...live.system.namespaces, ...[...live.functions.values()].map(f => f.namespace)])].sort();
		if (namespace.options.length !== all.length + 1) {
			namespace.replaceChildren(h('option', {value: ''}, 'All namespaces'), ...all.map(n => h('option', {value: n}, n)));
			namespace.value = all.includes(view.namespace) ? view.namespace : '';
			namespace.hidden = all.length < 2;
		}
	}

	const matches = f => (!view.namespace || f.namespace === view.namespace)
		&& (!view.state || f.state === view.state || view.state === 'ready' && f.state === 'scaling')
		&& (!view.search || `${f.id} ${f.image} ${f.command ?? ''}`.toLowerCase().includes(view.search));

	/** draw brings the table into agreement with live; changed are the only rows to look at, if given. */
	function draw(changed) {
		namespaces();
		const key = columns.find(c => c[0] === view.sort)[2], sign = view.down ? -1 : 1;
		const wanted = [...live.functions.values()].filter(matches);
		wanted.sort((a, b) => sign * compare(key(a), key(b)) || compare(a.id, b.id));
		const ids = new Set(wanted.map(f => f.id));
		for (const [id, row] of rows) if (!ids.has(id)) { row.remove(); rows.delete(id); }
		let before = body.firstElementChild;
		for (const f of wanted) {
			let row = rows.get(f.id);
			if (!row) { rows.set(f.id, row = newRow(f)); row.draw(f); } else if (!changed || changed.has(f.id)) row.draw(f);
			if (row === before) before = before.nextElementSibling;
			else body.insertBefore(row, before);
		}
		const rising = view.down !== (view.sort === 'name' || view.sort === 'state'); // numbers begin with the largest
		for (const th of head.children) {
			const mine = th.classList.contains('c-' + view.sort);
			attribute(th, 'aria-sort', mine ? (rising ? 'ascending' : 'descending') : 'none');
		}
		order.value = view.sort;
		table.classList.toggle('many', wanted.length > 100);
		sum();
		const none = live.functions.size === 0;
		add.hidden = numbers.hidden = tools.hidden = none; // one thing to do
		table.hidden = wanted.length === 0;
		empty.hidden = wanted.length > 0;
		if (!empty.hidden) empty.replaceChildren(...(none
			? [h('h2', {}, 'No functions yet'), h('p', {}, 'A function is any program that reads a request from its standard input and writes the answer.'),
				h('ol', {class: 'steps'}, [['Deploy', 'Give it a name, an image and a command, such as tr a-z A-Z.'], ['Invoke', 'Send it a request; see the answer, and where the time went.'], ['Watch', 'Its rate, latency, errors and log come here as they happen.']]
					.map(([what, how]) => h('li', {}, h('b', {}, what), h('span', {}, how)))),
				h('a', {class: 'button primary', href: '#/deploy'}, 'Deploy the first one')]
			: [h('p', {}, 'No function matches.'), h('button', {type: 'button', onclick: () => { search.value = view.search = view.state = ''; view.namespace = namespace.value = ''; draw(); }}, 'Show all')]));
		text(shown, wanted.length === live.functions.size ? '' : `${wanted.length} of ${live.functions.size}`);
	}

	function sum() {
		const all = [...live.functions.values()], n = state => all.filter(f => f.state === state).length;
		const total = key => all.reduce((t, f) => t + f[key], 0);
		const moving = n('starting') + n('scaling'), failing = n('failing'), failures = total('failures'), queued = total('queued');
		const jobs = all.filter(f => f.job).length;
		tiles.all.set(count(all.length), jobs ? `${count(jobs)} ${jobs === 1 ? 'job' : 'jobs'}` : '');
		tiles.ready.set(count(n('ready') + n('scaling')), moving ? `${moving} changing` : '');
		tiles.zero.set(count(n('zero')));
		tiles.failing.set(count(failing), '', failing ? 'bad' : '');
		tiles.rate.set(rate(total('rate')) + '/s', queued ? `${count(queued)} queued` : `${count(total('inFlight'))} in flight`);
		tiles.errors.set(percent(failures, total('rate')), '', failures ? 'bad' : '');
		for (const [state, one] of Object.entries({all: '', ready: 'ready', zero: 'zero', failing: 'failing'})) attribute(tiles[state], 'aria-pressed', String(view.state === one && (one !== '' || !view.state)));
	}

	const stop = listen(c => { if (c.functions.size || c.all) draw(c.all ? undefined : c.functions); });
	draw();
	return {close: stop};
}

const compare = (a, b) => a < b ? -1 : a > b ? 1 : 0;

function newRow(f) {
	const to = '#/f/' + encodeURIComponent(f.id);
	const cell = (key, ...children) => h('td', {role: 'cell', class: 'c-' + key}, ...children);
	const mark = badge('idle', ''), reason = h('span', {class: 'note reason'}), what = h('span', {class: 'note what'}), line = spark();
	const n = Object.fromEntries(['replicas', 'total', 'rate', 'errors', 'p50', 'p99', 'inflight', 'queued'].map(key => [key, h('span', {})]));
	const call = h('a', {class: 'button icon', href: to + '/invoke', 'aria-label': 'Invoke ' + f.name, title: 'Invoke'}, icon('play'));
	const row = h('tr', {role: 'row'},
		cell('name', h('a', {href: to}, f.name), what),
		cell('state', mark, reason),
		...['replicas', 'total'].map(key => cell(key, n[key])),
		cell('rate', n.rate, line),
		...['errors', 'p50', 'p99', 'inflight', 'queued'].map(key => cell(key, n[key])),
		cell('act', call));
	for (const [key, name] of columns) row.querySelector('.c-' + key).dataset.name = name;
	row.draw = f => {
		const [kind, word] = stateOf(f), why = f.reason || (f.job ? progress(f.job) : '');
		attribute(mark, 'class', 'badge ' + kind);
		text(mark, word);
		text(reason, why);
		attribute(reason, 'title', why);
		call.hidden = !!f.job; // nobody calls a job, so it has no numbers of that
		text(what, (f.namespace === 'openfaas-fn' ? '' : f.namespace + ' · ') + (f.command || f.image));
		attribute(what, 'title', `${f.image}${f.command ? ' · ' + f.command : ''}`);
		row.classList.toggle('job', !!f.job);
		if (f.job) {
			for (const e of Object.values(n)) text(e, '–');
			return;
		}
		text(n.replicas, `${f.ready} / ${f.desired}`);
		text(n.total, count(f.total));
		text(n.rate, rate(f.rate) + '/s');
		text(n.errors, f.rate ? percent(f.failures, f.rate) : '–');
		attribute(n.errors, 'class', f.failures ? 'bad' : '');
		text(n.p50, seconds(f.p50));
		text(n.p99, seconds(f.p99));
		text(n.inflight, count(f.inFlight));
		text(n.queued, count(f.queued));
		attribute(n.queued, 'class', f.queued ? 'warn' : '');
		line.draw(f.ended, f.failed);
	};
	return row;
}
