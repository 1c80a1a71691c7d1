// What an invocation sends: templates, checks, and the same as a command line.
import {functionURL, gatewayURL, quote} from './api.js';

export const methods = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS'];

/** templates fill in the form; f is the function. */
export const templates = {
	'': ['Choose a template…'],
	text: ['Plain text', () => ({method: 'POST', kind: 'text', body: 'hello'})],
	json: ['JSON', () => ({method: 'POST', kind: 'json', body: JSON.stringify({name: 'Ada'}, null, 2)})],
	form: ['Form', () => ({method: 'POST', kind: 'text', body: 'name=Ada&city=London', headers: [['Content-Type', 'application/x-www-form-urlencoded']]})],
	query: ['GET with a query', () => ({method: 'GET', kind: 'none', query: 'name=Ada'})],
	alexa: ['Alexa intent', f => ({method: 'POST', kind: 'json', body: JSON.stringify(alexaIntent(f.name), null, 2)})],
	launch: ['Alexa launch', f => ({method: 'POST', kind: 'json', body: JSON.stringify(alexaRequest(f.name, {type: 'LaunchRequest'}), null, 2)})],
	push: ['GitHub push', () => ({method: 'POST', kind: 'json', headers: [['X-GitHub-Event', 'push'], ['X-GitHub-Delivery', crypto.randomUUID?.() ?? '00000000-0000-4000-8000-000000000000']], body: JSON.stringify(push(), null, 2)})],
	event: ['CloudEvent', () => ({method: 'POST', kind: 'json', headers: [['Content-Type', 'application/cloudevents+json']], body: JSON.stringify({specversion: '1.0', type: 'com.example.created', source: '/example', id: '1', time: new Date().toISOString(), data: {name: 'Ada'}}, null, 2)})],
};

function alexaRequest(name, request) {
	const application = {applicationId: 'amzn1.ask.skill.example'}, user = {userId: 'amzn1.ask.account.example'};
	return {
		version: '1.0', session: {new: true, sessionId: 'amzn1.echo-api.session.example', application, attributes: {}, user},
		context: {System: {application, user, device: {deviceId: 'amzn1.ask.device.example', supportedInterfaces: {}}, apiEndpoint: 'https://api.amazonalexa.com'}},
		request: {requestId: 'amzn1.echo-api.request.example', timestamp: new Date().toISOString(), locale: 'en-US', ...request},
	};
}

const alexaIntent = name => alexaRequest(name, {type: 'IntentRequest', intent: {name, confirmationStatus: 'NONE', slots: {Color: {name: 'Color', value: 'blue', confirmationStatus: 'NONE'}}}});

function push() {
	const commit = {id: '2'.repeat(40), message: 'Say hello', timestamp: new Date().toISOString(), author: {name: 'Ada', email: 'ada@example.com', username: 'ada'}, added: ['hello.txt'], removed: [], modified: []};
	return {
		ref: 'refs/heads/main', before: '1'.repeat(40), after: commit.id, created: false, deleted: false, forced: false,
		repository: {id: 1, name: 'example', full_name: 'ada/example', private: false, html_url: 'https://github.com/ada/example', default_branch: 'main', owner: {name: 'ada', login: 'ada'}},
		pusher: {name: 'ada', email: 'ada@example.com'}, sender: {login: 'ada', id: 1}, commits: [commit], head_commit: commit,
	};
}

const contentTypes = {text: 'text/plain; charset=utf-8', json: 'application/json'};

/** contentType is the one that a request gets if its headers don't say. */
export const contentType = q => q.kind === 'file' ? q.file?.type || 'application/octet-stream' : contentTypes[q.kind];

const forbidden = /^(accept-charset|accept-encoding|access-control-.*|connection|content-length|cookie2?|date|dnt|expect|host|keep-alive|origin|permissions-policy|referer|set-cookie|te|trailer|transfer-encoding|upgrade|via|proxy-.*|sec-.*)$/i;

/** faults says what a browser can't send, by field. */
export function faults(q) {
	const f = {};
	if ((q.method === 'GET' || q.method === 'HEAD') && q.kind !== 'none') f.body = `Browsers send no body with ${q.method}: choose POST, or None.`;
	if (q.kind === 'json') {
		try { JSON.parse(q.body); } catch (e) { f.body = 'This is not JSON: ' + e.message; }
	}
	if (q.kind === 'file' && !q.file) f.body = 'Choose a file.';
	if (!q.path.startsWith('/')) f.path = 'A path begins with /.';
	for (const [name, value] of q.headers) {
		if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name)) f.headers = name ? `“${name}” can’t be a header’s name.` : 'A header needs a name.';
		else if (forbidden.test(name)) f.headers = `Browsers don’t let a page set ${name}: use the curl line.`;
		else if (/[^\t\x20-\x7e\x80-\xff]/.test(value)) f.headers = `${name}: want characters of one byte, in one line.`;
	}
	return f;
}

/** address is the URL that a request goes to. */
export function address(f, q) {
	const query = q.query.replace(/^\?/, '');
	const path = q.path.replace(/^\/+/, '').replace(/[?#\s]/g, encodeURIComponent);
	return functionURL(f) + (path && '/' + path) + (query && '?' + query.replace(/[#\s]/g, encodeURIComponent));
}

const hasType = q => q.headers.some(([name]) => name.toLowerCase() === 'content-type');

/** headersOf are all that the page sends by itself or was told to. */
export const headersOf = q => [...q.kind !== 'none' && !hasType(q) ? [['Content-Type', contentType(q)]] : [], ...q.headers];

/** curl is the request as a command. */
export function curl(f, q) {
	const words = ['curl', '-i'];
	if (q.method === 'HEAD') words.push('-I');
	else if (q.method !== (q.kind === 'none' ? 'GET' : 'POST')) words.push('-X', q.method);
	for (const [name, value] of headersOf(q)) words.push('-H', quote(`${name}: ${value}`));
	if (q.kind === 'file') words.push('--data-binary', quote('@' + (q.file?.name ?? 'FILE')));
	else if (q.kind !== 'none') words.push('--data-raw', quote(q.body));
	words.push(quote(address(f, q)));
	return words.join(' ');
}

/** faasCLI is the request as faas-cli sends it, or nothing: it knows no paths below a function. */
export function faasCLI(f, q) {
	if (q.path !== '/') return '';
	const words = ['faas-cli', 'invoke', quote(f.name), '-g', quote(gatewayURL())];
	if (f.namespace !== 'openfaas-fn') words.push('-n', quote(f.namespace));
	if (q.method !== 'POST') words.push('--method', q.method);
	for (const [name, value] of new URLSearchParams(q.query)) words.push('--query', quote(`${name}=${value}`));
	for (const [name, value] of headersOf(q)) {
		if (name.toLowerCase() === 'content-type') words.push('--content-type', quote(value));
		else words.push('-H', quote(`${name}=${value}`));
	}
	const line = words.join(' ');
	if (q.kind === 'file') return line + ' < ' + quote(q.file?.name ?? 'FILE');
	return q.kind === 'none' ? line + ' < /dev/null' : `printf %s ${quote(q.body)} | ${line}`;
}
