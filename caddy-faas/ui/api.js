// The management API, beside the page.

/** at is an address beside the page. The document's own base would hold a password that was typed into the address bar, which fetch refuses. */
export const at = path => new URL(path, location.href).href;

export const systemURL = at('../system/');

/** A Refused is the server's no, in its words. */
export class Refused extends Error {
	constructor(status, message) {
		super(message);
		this.status = status;
	}
}

/** send is fetch; what changes nothing is sent again if the connection broke. */
async function send(url, options) {
	try {
		return await fetch(url, options);
	} catch (e) {
		if (options.method !== 'GET') throw e;
		await new Promise(done => setTimeout(done, 500));
		return fetch(url, options);
	}
}

/** ask calls the API and returns the answer's text. */
export async function ask(method, path, body) {
	let r;
	try {
		r = await send(systemURL + path, {method, body: body && JSON.stringify(body), headers: body && {'Content-Type': 'application/json'}});
	} catch {
		throw new Refused(0, 'The gateway does not answer. What was sent may or may not have been done.');
	}
	const text = (await r.text()).trim();
	if (r.status === 401) throw new Refused(401, 'Your sign-in is no longer accepted: load the page again.');
	if (!r.ok) throw new Refused(r.status, text || r.status + ' ' + r.statusText);
	return text;
}

export const json = async path => JSON.parse(await ask('GET', path));

/** describe is a function's deployment, with what it consumes if that is asked for. */
export const describe = (f, usage = false) => json(`function/${encodeURIComponent(f.name)}?usage=${usage ? 1 : 0}&namespace=${encodeURIComponent(f.namespace)}`);

export const scaleTo = (f, replicas) =>
	ask('POST', `scale-function/${encodeURIComponent(f.name)}`, {serviceName: f.name, namespace: f.namespace, replicas});

/** run runs a job again. */
export const run = f => ask('POST', `run-function/${encodeURIComponent(f.name)}`, {namespace: f.namespace});

export const remove = f => ask('DELETE', 'functions', {functionName: f.name, namespace: f.namespace});

/** functionURL is where anybody calls the function. */
export function functionURL(f) {
	const name = f.namespace === 'openfaas-fn' ? f.name : f.name + '.' + f.namespace;
	return at('../function/' + encodeURIComponent(name));
}

/** gatewayURL is what faas-cli takes as its gateway. */
export const gatewayURL = () => at('..').replace(/\/$/, '');

/** quote makes one word of a shell's command. */
export const quote = word => /^[\w@%+=:,./-]+$/.test(word) ? word : "'" + word.replaceAll("'", "'\\''") + "'";
