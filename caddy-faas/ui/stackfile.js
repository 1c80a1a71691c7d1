// A function as an entry of a stack file.

/** word is a scalar: plain words need no quotes in YAML; everything else is written as JSON writes it, which YAML reads. */
const word = v => /^[a-zA-Z][\w./:-]*\w$/.test(v) && !/^(true|false|yes|no|on|off|null)$/i.test(v) ? v : JSON.stringify(v);

/** stackFile is the stack file that deploys what a deployment of the API does. */
export function stackFile(d) {
	const lines = [];
	const one = (depth, name, value) => { if (value) lines.push('  '.repeat(depth) + word(name) + ': ' + value); };
	const map = (name, m) => {
		if (!Object.keys(m ?? {}).length) return;
		lines.push(`    ${name}:`);
		for (const [n, v] of Object.entries(m)) one(3, n, word(v));
	};
	const list = (name, values) => one(2, name, values?.length ? '[' + values.map(word).join(', ') + ']' : '');
	lines.push('functions:', `  ${word(d.service || 'my-function')}:`);
	one(2, 'namespace', d.namespace === 'openfaas-fn' ? '' : word(d.namespace));
	one(2, 'image', d.image && word(d.image));
	one(2, 'fprocess', d.envProcess && word(d.envProcess));
	map('environment', d.envVars);
	list('secrets', d.secrets);
	map('labels', d.labels);
	map('annotations', d.annotations);
	map('limits', d.limits);
	map('requests', d.requests);
	list('constraints', d.constraints);
	one(2, 'readonly_root_filesystem', d.readOnlyRootFilesystem && 'true');
	return lines.join('\n').replaceAll('${', () => '$${') + '\n'; // ${NAME} would be a variable of the environment
}
