// The parts of the URL in the body, as JSON.
const text = require('node:fs').readFileSync(0, 'utf8').trim();
try {
	const u = new URL(text);
	console.log(JSON.stringify({
		scheme: u.protocol.slice(0, -1),
		host: u.hostname,
		port: u.port,
		path: u.pathname,
		query: Object.fromEntries(u.searchParams),
		fragment: u.hash.slice(1),
	}));
} catch (error) {
	console.error(`urlparts: ${error.message}: ${text.slice(0, 200)}`);
	process.exitCode = 1;
}
