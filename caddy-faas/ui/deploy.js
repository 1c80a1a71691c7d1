// Deploying a function, and changing one: the same form.
import {h, field, text, toast, copyButton} from './dom.js';
import {live} from './live.js';
import {ask, describe, json} from './api.js';
import {pairs, twice} from './fields.js';
import {stackFile} from './stackfile.js';

const nameForm = /^[a-zA-Z0-9]([-_a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$/;
const nameWords = '1 to 63 letters, digits, - or _, with a letter or digit at both ends.';

const duration = [/^(\d+|(\d+(\.\d+)?(h|m|s|ms|us|ns))+)$/, 'Want a duration such as 10s or 1m30s.'];

/** known labels have fields of their own; what stands for none is what the gateway does then. */
const scaling = [
	['min', 'com.openfaas.scale.min', 'Minimum replicas', d => d.min, 'At deployment; 0: the first invocation starts it.', /^\d{1,5}$/, 'Want a whole number from 0.'],
	['max', 'com.openfaas.scale.max', 'Maximum replicas', d => d.max, 'The most that load scales it to.', /^[1-9]\d{0,4}$/, 'Want a whole number from 1.'],
	['zero', 'com.openfaas.scale.zero', 'Scale to zero', d => d.zero ? 'yes' : 'no', 'Without use it has no replica; the next invocation starts one.'],
	['idle', 'com.openfaas.scale.zero-duration', 'To zero after', d => d.zeroAfter, 'So long without use.', ...duration],
	['concurrency', 'faas.concurrency', 'Concurrency', d => d.concurrency || 'no limit', 'Requests that one replica gets at a time.', /^\d{1,6}$/, 'Want a whole number; 0 for no limit.'],
	['timeout', 'faas.timeout', 'Time limit', () => '30s', 'Of one execution.', ...duration],
];
const commonest = list => Object.entries(Object.groupBy(list, v => v)).sort((a, b) => b[1].length - a[1].length)[0]?.[0];
const yes = v => /^(1|t|true)$/i.test(v);
const quantity = /^\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$/;

export function deploy(main) {
	main.append(h('h1', {}, 'Deploy a function'));
	return editor(main, null);
}

export function edit(pane, f) {
	return editor(pane, f);
}

function editor(pane, f) {
	const input = (placeholder, props) => h('input', {type: 'text', placeholder, spellcheck: 'false', autocapitalize: 'off', autocomplete: 'off', oninput: check, ...props});
	const list = (id, values) => h('datalist', {id}, [...new Set(values)].sort().map(v => h('option', {value: v})));
	const all = [...live.functions.values()];
	const fields = {
		service: field('Name', input('my-function', {disabled: !!f}), f ? 'A function’s name can’t be changed.' : nameWords),
		namespace: field('Namespace', h('select', {disabled: !!f, onchange: () => { secretsOf(); check(); }}, live.system.namespaces.map(n => h('option', {}, n)))),
		image: field('Image', input(commonest(all.map(x => x.image).filter(Boolean)) ?? 'name:tag', {list: 'images'}), live.system.provider === 'local' ? 'One that the configuration or the stack file names: on this machine it stands for a folder or a command.' : 'What its replicas run.'),
		envProcess: field('Command', input('python3 handler.py', {list: 'commands'}), (f?.job ? 'Run to its end.' : 'Run for each request, its body on standard input.') + (live.system.provider === 'local' ? ' One of the stack file’s, or one that the configuration allows.' : ' Default: the image’s own.')),
		memory: field('Memory limit', input('none'), 'For each replica, such as 128Mi.'),
		cpu: field('CPU limit', input('none'), 'In cores, such as 0.5 or 500m.'),
		memoryRequest: field('Memory reserved', input('none')),
		cpuRequest: field('CPU reserved', input('none')),
		constraints: field('Constraints', h('textarea', {rows: 2, placeholder: 'node.labels.disk == ssd', spellcheck: 'false', oninput: check}), 'Of placement, one a line.'),
	};
	const standards = live.system.scaling;
	const yesOrNo = standard => h('select', {onchange: check}, [['', `default (${standard})`], ['true', 'yes'], ['false', 'no']].map(([value, word]) => h('option', {value}, word)));
	for (const [key, , name, standard, hint] of scaling) fields[key] = field(name, (key === 'zero' ? yesOrNo : input)(String(standard(standards))), hint);
	const lists = {envVars: pairs('Variable', 'NAME', 'Value', check), labels: pairs('Label', 'Name', 'Value', check), annotations: pairs('Annotation', 'Name', 'Value', check)};
	const listNotes = Object.fromEntries(Object.keys(lists).map(k => [k, h('p', {class: 'note wrong', role: 'status'})]));
	const readOnly = h('input', {type: 'checkbox'});
	const secretBox = h('div', {class: 'checks'}), secretNote = h('p', {class: 'note wrong'});
	const refusal = h('p', {class: 'banner bad', role: 'alert', hidden: true});
	const submit = h('button', {type: 'submit', class: 'primary'}, f ? (f.job ? 'Save and run' : 'Save and redeploy') : 'Deploy');
	const group = (title, note, full, ...children) => h('section', {class: 'panel' + (full ? ' full' : '')}, h('h2', {}, title), note && h('p', {class: 'note'}, note), ...children);
	const form = h('form', {class: 'deploy', onsubmit: e => { e.preventDefault(); send(); }, novalidate: true},
		list('images', all.map(x => x.image)), list('commands', all.map(x => x.command).filter(Boolean)),
		group('Function', '', true, h('div', {class: 'grid'}, fields.service, fields.namespace, fields.image, fields.envProcess)),
		group('Environment', 'Paste lines of NAME=VALUE into a name to add them all.', false, lists.envVars, listNotes.envVars),
		group('Secrets', live.system.secrets ? 'Each is a file that the function can read.' : 'The provider keeps none.', false, secretBox, secretNote),
		group(f?.job ? 'Limits' : 'Scaling and limits', '', true, h('div', {class: 'grid five'}, f?.job ? [] : scaling.map(([key]) => fields[key]), fields.memory, fields.cpu, fields.memoryRequest, fields.cpuRequest)),
		group('Labels', '', false, lists.labels, listNotes.labels),
		group('Annotations', '', false, lists.annotations, listNotes.annotations),
		group('Placement', '', true, fields.constraints, h('label', {class: 'inline'}, readOnly, h('span', {}, 'Root file system is read-only'))),
		h('div', {class: 'panel full'}, refusal, h('div', {class: 'actions start'}, submit, h('a', {class: 'button', href: f ? '#/f/' + encodeURIComponent(f.id) : '#/'}, 'Cancel'))));
	const loading = h('p', {class: 'note', role: 'status'}, 'Loading…');
	const same = h('code', {class: 'file', tabindex: '0', 'aria-label': 'Stack file'});
	const aside = h('section', {class: 'panel'}, h('h2', {}, 'The same in a stack file'),
		h('div', {class: 'copyable'}, h('span', {class: 'note'}, 'functions/stack.yml, or faas-cli’s'), same, copyButton('Copy the stack file', () => same.textContent)));
	const whole = h('div', {class: 'deploying'}, form, aside);
	pane.append(whole);

	const value = key => fields[key].control.value.trim();
	let tried = false, chosen = new Set(), others = {limits: {}, requests: {}}, refused = {}, closed = false;

	/** wrong returns what is wrong, by field; only what was typed, until one tries to send it. */
	function wrong() {
		const w = {};
		if (!f) {
			if (!value('service')) w.service = tried ? 'A name is needed: ' + nameWords : '';
			else if (!nameForm.test(value('service'))) w.service = nameWords;
			else if (live.functions.has(value('service') + '.' + fields.namespace.control.value)) w.service = 'There is a function of this name: edit that one.';
		}
		if (!value('image')) w.image = tried ? 'An image is needed.' : '';
		for (const [key, , , , , form, message] of scaling) if (value(key) && form && !form.test(value(key))) w[key] = message;
		if (!w.min && !w.max && value('max') && Number(value('min') || standards.min) > Number(value('max'))) w.max = 'Less than the minimum.';
		for (const key of ['memory', 'memoryRequest', 'cpu', 'cpuRequest']) if (value(key) && !quantity.test(value(key))) w[key] = key.startsWith('memory') ? 'Want a size such as 128Mi or 1G.' : 'Want cores such as 0.5, or 500m.';
		for (const [key, l] of Object.entries(lists)) {
			const entries = l.list(), same = twice(entries);
			if (entries.some(([n]) => !n)) w[key] = 'A value without a name.';
			else if (same) w[key] = `${same} is there twice.`;
			else if (key === 'envVars' && entries.some(([n]) => /[=\0\s]/.test(n))) w[key] = 'A variable’s name has neither = nor spaces.';
		}
		for (const [key, message] of Object.entries(refused)) w[key] ||= message;
		return w;
	}

	function check() {
		const w = wrong();
		for (const [key, e] of Object.entries(fields)) e.blame(w[key]);
		for (const [key, e] of Object.entries(listNotes)) text(e, w[key] ?? '');
		text(secretNote, w.secrets ?? '');
		submit.disabled = Object.entries(w).some(([key, m]) => m && !refused[key]);
		fields.idle.control.disabled = !(value('zero') ? yes(value('zero')) : standards.zero) && !value('idle');
		text(same, stackFile(body()));
		return w;
	}
	form.addEventListener('input', () => { refused = {}; refusal.hidden = true; check(); });

	function body() {
		const map = key => Object.fromEntries(lists[key].list());
		const resources = (rest, memory, cpu) => {
			const r = {...rest, ...value(memory) && {memory: value(memory)}, ...value(cpu) && {cpu: value(cpu)}};
			return Object.keys(r).length ? r : undefined;
		};
		const labels = map('labels');
		for (const [key, label] of scaling) if (value(key)) labels[label] = value(key);
		const constraints = fields.constraints.control.value.split('\n').map(l => l.trim()).filter(Boolean);
		return {
			service: f?.name ?? value('service'), namespace: f?.namespace ?? fields.namespace.control.value, image: value('image'),
			envProcess: value('envProcess') || undefined, envVars: map('envVars'), labels, annotations: map('annotations'),
			secrets: [...chosen], constraints: constraints.length ? constraints : undefined, readOnlyRootFilesystem: readOnly.checked || undefined,
			limits: resources(others.limits, 'memory', 'cpu'), requests: resources(others.requests, 'memoryRequest', 'cpuRequest'),
		};
	}

	async function send() {
		tried = true;
		refused = {};
		const bad = Object.entries(check()).find(([, m]) => m);
		if (bad) { (fields[bad[0]]?.control ?? lists[bad[0]]?.querySelector('input'))?.focus(); return; }
		submit.disabled = true;
		const d = body();
		try {
			const said = await ask(f ? 'PUT' : 'POST', 'functions', d);
			toast(said || `${d.service} is ${f?.job ? 'run' : f ? 'redeployed' : 'deployed'}`, said.startsWith('deployed, but') ? 'bad' : '');
			location.hash = '#/f/' + encodeURIComponent(d.service + '.' + d.namespace);
		} catch (e) {
			if (closed) return;
			refusal.hidden = false;
			text(refusal, (e.status ? 'Refused: ' : '') + e.message);
			const at = blame(e.message);
			check();
			submit.disabled = false;
			if (fields[at]) fields[at].control.focus();
			else refusal.scrollIntoView({block: 'nearest'});
		}
	}

	/** blame puts the server's words beside the field that they are about, if they name one, and returns which. */
	function blame(message) {
		const about = [
			[/field service|function name|exists already/, 'service'], [/namespace/, 'namespace'], [/field image|image/, 'image'], [/envProcess|command|fprocess|not found on PATH|executable/, 'envProcess'],
			[/memory/, 'memory'], [/cpu/i, 'cpu'], [/secret/, 'secrets'], [/envVars|variable|environment/, 'envVars'], [/label/, 'labels'], [/annotation/, 'annotations'], [/constraint/, 'constraints'],
		].map(([words, key]) => ({at: message.search(words), key})).filter(a => a.at >= 0).sort((a, b) => a.at - b.at)[0]; // what it is about comes first
		if (about) refused[about.key] = message;
		return about?.key;
	}

	async function secretsOf() {
		if (!live.system.secrets) return;
		const ns = f?.namespace ?? fields.namespace.control.value;
		let names = [];
		try { names = (await json('secrets?namespace=' + encodeURIComponent(ns))).map(s => s.name); } catch (e) { text(secretNote, e.message); }
		const every = [...new Set([...names, ...chosen])].sort();
		secretBox.replaceChildren(...(every.length ? every.map(n => h('label', {class: 'inline'},
			h('input', {type: 'checkbox', checked: chosen.has(n), onchange: e => { if (e.target.checked) chosen.add(n); else chosen.delete(n); }}), h('span', {}, n)))
			: [h('p', {class: 'note'}, 'There are none in this namespace. ', h('a', {href: '#/secrets'}, 'Create one'))]));
	}

	async function fill() {
		let d;
		try { d = await describe(f); } catch (e) { loading.replaceWith(h('p', {class: 'banner bad'}, e.message)); return; }
		const labels = {...d.labels};
		delete labels.faas_function;
		for (const [key, label] of scaling) { fields[key].control.value = labels[label] ?? ''; delete labels[label]; }
		if (d.labels['com.openfaas.scale.zero']) fields.zero.control.value = String(yes(d.labels['com.openfaas.scale.zero']));
		fields.service.control.value = d.name;
		if (![...fields.namespace.control.options].some(o => o.value === d.namespace)) fields.namespace.control.append(h('option', {}, d.namespace));
		fields.namespace.control.value = d.namespace;
		fields.image.control.value = d.image;
		fields.envProcess.control.value = d.envProcess ?? '';
		fields.constraints.control.value = (d.constraints ?? []).join('\n');
		const {memory, cpu, ...limits} = d.limits ?? {}, {memory: m, cpu: c, ...requests} = d.requests ?? {};
		others = {limits, requests};
		for (const [key, v] of Object.entries({memory, cpu, memoryRequest: m, cpuRequest: c})) fields[key].control.value = v ?? '';
		lists.envVars.set(Object.entries(d.envVars ?? {}));
		lists.labels.set(Object.entries(labels));
		lists.annotations.set(Object.entries(d.annotations));
		readOnly.checked = !!d.readOnlyRootFilesystem;
		chosen = new Set(d.secrets ?? []);
		secretsOf();
		check();
		loading.remove();
		whole.hidden = false;
	}

	if (f) {
		whole.hidden = true;
		pane.append(loading);
		fill();
	}
	else secretsOf();
	check();
	return {close() { closed = true; }};
}
