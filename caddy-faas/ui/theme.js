// Runs before anything is painted, so that a chosen scheme does not flash.
try {
	const chosen = localStorage.getItem('faas.theme');
	if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
} catch { /* storage is off: the system's scheme it is */ }
