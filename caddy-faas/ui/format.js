// Numbers and times in words.

const whole = new Intl.NumberFormat('en');
const short = new Intl.NumberFormat('en', {notation: 'compact', maximumFractionDigits: 1});

export const count = n => n < 100000 ? whole.format(n) : short.format(n);

/** rate is a number per second. */
export function rate(n) {
	if (!n) return '0';
	if (n < 1) return n.toFixed(2).replace(/0$/, '');
	return n < 10 ? n.toFixed(1) : count(Math.round(n));
}

/** seconds is a duration. */
export function seconds(t) {
	if (!t) return '–';
	const ms = t * 1000;
	if (ms < 1) return ms.toFixed(2) + ' ms';
	if (ms < 10) return ms.toFixed(1) + ' ms';
	if (ms < 1000) return Math.round(ms) + ' ms';
	if (t < 60) return t.toFixed(t < 10 ? 2 : 1) + ' s';
	return span(t * 1000);
}

export function percent(part, all) {
	if (!part || !all) return '0%';
	const p = 100 * part / all;
	return (p < 10 ? p.toFixed(1).replace(/\.0$/, '') : Math.round(p)) + '%';
}

export function bytes(n) {
	const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
	let i = 0;
	while (n >= 1024 && i < units.length - 1) { n /= 1024; i++; }
	return (i && n < 10 ? n.toFixed(1) : Math.round(n)) + ' ' + units[i];
}

/** span is a long duration, in milliseconds. */
export function span(ms) {
	const s = Math.max(0, Math.round(ms / 1000)), m = Math.floor(s / 60), hours = Math.floor(m / 60), d = Math.floor(hours / 24);
	if (s < 60) return s + ' s';
	if (m < 60) return m + ' min';
	if (hours < 48) return hours + ' h' + (m % 60 && hours < 10 ? ' ' + m % 60 + ' min' : '');
	return d + ' days';
}

export const ago = at => {
	const ms = Date.now() - new Date(at);
	return (ms < 5000 ? 'just now' : span(ms) + ' ago').replaceAll(' ', '\u00a0');
};

export const clock = at => new Date(at).toLocaleTimeString('en-GB');
export const moment = at => new Date(at).toLocaleString('sv-SE');

/** states of a function, and of a job: the badge's kind and its word. */
const states = {
	ready: ['good', 'Ready'], scaling: ['busy', 'Scaling'], starting: ['busy', 'Starting'],
	zero: ['idle', 'At zero'], failing: ['bad', 'Failing'],
	running: ['run', 'Running'], waiting: ['busy', 'Waiting'], done: ['good', 'Done'], // jobs
};

export const stateOf = f => f.job && f.state === 'failing' ? ['bad', 'Failed'] : states[f.state];

/** progress is how far a job's last run came. */
export const progress = j => `${count(j.done)} of ${count(j.completions)} done`;

/** arrows draws the arrow in a change of a number. */
export const arrows = s => s.replaceAll(' -> ', ' → ');

/** name is a function's shortest unambiguous name. */
export const name = id => id.endsWith('.openfaas-fn') ? id.slice(0, -'.openfaas-fn'.length) : id;
