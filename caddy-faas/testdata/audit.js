// Finds what people with weak eyes, a keyboard or a small screen would stumble over. Returns a line for each fault.
(() => {
	const faults = new Set(), canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true}), known = new Map();
	const where = e => `${e.tagName.toLowerCase()}${e.classList.length ? '.' + [...e.classList].join('.') : ''} “${(e.innerText || e.value || e.getAttribute('aria-label') || '').trim().slice(0, 30)}”`;
	const shown = e => e.checkVisibility({visibilityProperty: true, opacityProperty: true}) && e.getClientRects().length > 0;

	function rgba(css) {
		if (!known.has(css)) {
			canvas.clearRect(0, 0, 1, 1);
			canvas.fillStyle = css;
			canvas.fillRect(0, 0, 1, 1);
			const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
			known.set(css, [r, g, b, a / 255]);
		}
		return known.get(css);
	}
	const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a), 1];
	function behind(e) {
		const layers = [];
		for (; e; e = e.parentElement) {
			const c = rgba(getComputedStyle(e).backgroundColor);
			if (c[3] > 0) layers.push(c);
			if (c[3] === 1) break;
		}
		return layers.reduceRight((under, c) => over(c, under), [255, 255, 255, 1]);
	}
	const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	function contrast(e, css, what) {
		const under = behind(e), [a, b] = [light(over(rgba(css), under)), light(under)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
		const style = getComputedStyle(e), size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
		if (ratio < (large ? 3 : 4.5)) faults.add(`contrast ${ratio.toFixed(2)}: ${what} ${where(e)}`);
	}

	for (const e of document.querySelectorAll('body *')) {
		if (!shown(e) || e.closest('[aria-hidden=true]')) continue;
		const own = [...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.data.trim()), style = getComputedStyle(e);
		if (own && !e.closest(':disabled, option')) contrast(e, e.namespaceURI.endsWith('svg') ? style.fill : style.color, 'text');
		if (e.matches('input:not(:disabled, [type=checkbox], [type=radio], [type=range], [type=file]), textarea, select:not(:disabled)')) {
			contrast(e, style.color, 'value');
			if (e.placeholder) contrast(e, getComputedStyle(e, '::placeholder').color, 'placeholder');
		}
		if (e.matches('input, select, textarea') && !e.labels?.length && !e.getAttribute('aria-label')) faults.add('no label: ' + where(e));
		if (e.matches('button, a[href], summary') && !(e.getAttribute('aria-label') || e.innerText.trim() || e.querySelector('img[alt]:not([alt=""])'))) faults.add('no name: ' + where(e));
		if (e.matches('iframe:not([title]), img:not([alt]), svg[role=img]:not([aria-label]), table:not([aria-label]):not(.plain)')) faults.add('no name: ' + where(e));
		const box = e.getBoundingClientRect();
		if (e.matches('button, a.button, input:not([type=checkbox], [type=radio]), select') && (box.height < 24 || box.width < 24)) faults.add(`small target ${Math.round(box.width)}×${Math.round(box.height)}: ` + where(e));
		const scrolls = e.closest('.log, pre, .events, .tabs.small, .copyable code, .moving, svg, .skip, .away');
		if (!scrolls && box.right > innerWidth + 1) faults.add('beyond the right edge: ' + where(e));
		if (own && !scrolls && style.overflowX !== 'visible' && e.scrollWidth > e.clientWidth + 1 && !(style.textOverflow === 'ellipsis' && e.title) && !e.matches('textarea, input, a')) faults.add('clipped: ' + where(e));
		if (e.matches('button, .button, .badge') && e.scrollWidth > e.clientWidth + 1 && style.textOverflow !== 'ellipsis') faults.add('too small for its text: ' + where(e));
	}

	// Nothing that is read or pressed lies on something else.
	const solid = [...document.querySelectorAll('main button, main a, main input, main select, main textarea, main h1, main h2, main .badge, main .note, main code')].filter(e => shown(e) && !e.closest('.tip, dialog, .log, .plot, .events'));
	for (let i = 0; i < solid.length && solid.length < 400; i++) {
		for (let k = i + 1; k < solid.length; k++) {
			if (solid[i].contains(solid[k]) || solid[k].contains(solid[i])) continue;
			const a = solid[i].getBoundingClientRect(), b = solid[k].getBoundingClientRect();
			const w = Math.min(a.right, b.right) - Math.max(a.left, b.left), d = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
			if (w > 2 && d > 2) faults.add(`overlap: ${where(solid[i])} and ${where(solid[k])}`);
		}
	}
	const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
	for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) faults.add('the id is there twice: ' + id);
	if (document.querySelectorAll('h1').length !== 1) faults.add('not one h1 but ' + document.querySelectorAll('h1').length);
	if (!document.documentElement.lang || !document.title) faults.add('no language or title');
	if (document.documentElement.scrollWidth > innerWidth) faults.add(`wider than the window: ${document.documentElement.scrollWidth} of ${innerWidth}`);
	return [...faults].join('\n');
})()
