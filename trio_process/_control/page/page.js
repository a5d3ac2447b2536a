// The page of the control plane: one module, no dependency. What comes from a process or the API is only ever set as text.

const API = 'api/process';
const $ = (id) => document.getElementById(id);
const on = (el, name, act, options) => el.addEventListener(name, act, options);
const root = document.documentElement.dataset;
const SVG = 'http://www.w3.org/2000/svg';

function h(tag, props, ...children) {
	const el = document.createElement(tag);
	return fill(el, props, children);
}

const td = (cls, ...children) => h('td', { cls }, ...children);
const sp = (cls, ...children) => h('span', { cls }, ...children);
const div = (cls, ...children) => h('div', { cls }, ...children);

function s(tag, props, ...children) {
	return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(el, props, children) {
	for (const [name, value] of Object.entries(props || {})) {
		if (!value && value !== 0) continue;
		if (name.startsWith('on')) on(el, name.slice(2), value);
		else el.setAttribute(name === 'cls' ? 'class' : name, value === true ? '' : /^(ti|aria)/.test(name) ? clean(value) : value);
	}
	el.append(...children.flat().filter((child) => child || child === 0).map(clean));
	return el;
}

// what has no sign of its own, or changes the direction or the line (not the joiners of scripts and emoji)
const INVISIBLE = /([\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb])/;

function sign(char) {
	const code = char.charCodeAt(0);
	return code < 32 ? String.fromCharCode(0x2400 + code) : code === 127 ? '\u2421' : `U+${code.toString(16).toUpperCase().padStart(4, '0')}`;
}

// A text as it may be shown: all of them go through here, but lines of logs.
const clean = (value) => (INVISIBLE.test(value) ? value.split(INVISIBLE).map((piece, at) => (at % 2 ? sign(piece) : piece)).join('') : value);

function text(el, value) {
	value = clean(value);
	if (el.textContent !== value) el.textContent = value;
}

function tip(el, value, title = value) { text(el, value); el.title = clean(title); }

function swap(el, key, make) {  // only when the key has changed: the focus stays
	if (el.dataset.key === key) return;
	el.dataset.key = key;
	el.replaceChildren(...[make()].flat());
}

const two = (number) => String(number).padStart(2, '0');

function span(seconds) {
	if (seconds < 0 || !isFinite(seconds)) return '–';
	if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
	if (seconds < 10) return `${seconds.toFixed(1)} s`;
	if (seconds < 60) return `${Math.round(seconds)} s`;
	const minutes = Math.floor(seconds / 60);
	if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
	const hours = Math.floor(minutes / 60);
	return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

function since(iso) {
	const seconds = (now() - new Date(iso)) / 1000;
	return seconds < 60 ? `${Math.max(0, Math.floor(seconds))} s` : span(seconds);
}

function size(bytes) {
	if (!bytes) return '–';
	const units = ['B', 'kB', 'MB', 'GB', 'TB'];
	let place = 0;
	while (bytes >= 1000 && place < 4) { bytes /= 1000; place += 1; }
	return `${bytes >= 100 || !place ? Math.round(bytes) : bytes.toFixed(1)} ${units[place]}`;
}

const percent = (share) => (share < 0.0005 ? '0 %' : `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`);
const number = (count) => count.toLocaleString('en').replaceAll(',', '\u202f');
const plural = (count, word) => `${number(count)} ${word}${count === 1 ? '' : word.endsWith('s') ? 'es' : 's'}`;
const part = encodeURIComponent;

class Refused extends Error {
	constructor(status, error) { super(error.message || `status ${status}`); this.status = status; }
}

async function api(path, method = 'GET', body) {
	const options = { method, headers: { Accept: 'application/json' } };
	if (body !== undefined) { options.body = JSON.stringify(body); options.headers['Content-Type'] = 'application/json'; }
	const answer = await fetch(`${API}${path}`, options);
	let envelope;
	try { envelope = await answer.json(); } catch { throw new Refused(answer.status, { message: `the server answered ${answer.status}` }); }
	if (answer.status === 401 && path !== '/session') login();
	if (!envelope.success) throw new Refused(answer.status, envelope.error || {});
	return envelope.data;
}

function toast(message, kind = '') {
	const el = div(`toast ${kind}`, message);
	$('toasts').append(el);
	while ($('toasts').children.length > 4) $('toasts').firstChild.remove();
	setTimeout(() => el.remove(), kind === 'bad' ? 9000 : 4000);
}

let calls; // one after the other

async function call(path, done, method = 'POST', body) {
	try {
		await (calls = Promise.resolve(calls).catch(() => 0).then(() => api(path, method, body)));
		toast(done, 'good');
	} catch (error) {
		if (error.status !== 401) toast(error.message, 'bad');
	}
}

function ask(question, detail, word) {
	return new Promise((resolve) => {
		const dialog = $('dialog');
		dialog.replaceChildren(h('form', { method: 'dialog' }, h('h2', {}, question), h('p', { cls: 'dim' }, detail),
			div('row', h('button', { value: 'no' }, 'Cancel'), h('button', { value: 'yes', cls: 'main' }, word))));
		dialog.onclose = () => resolve(dialog.returnValue === 'yes');
		dialog.returnValue = 'no';
		dialog.showModal();
	});
}

// --- state and events

const S = {
	services: new Map(), processes: new Map(), daemons: new Map(), pipelines: new Map(), specs: new Map(), samples: new Map(),
	has: {}, access: 'read', groups: new Map(), instance: '', live: 'connecting', skew: 0, full: new Set(),
};
const now = () => Date.now() + S.skew;  // by the clock of the server
const all = () => [...S.services.values()];
let view = null;
let drawing = false;

const later = (act) => (document.hidden ? setTimeout(act, 500) : requestAnimationFrame(act));

function redraw() {
	if (drawing) return;
	drawing = true;
	later(() => { drawing = false; chrome(); view?.update(); });
}

const FULL = 'Too many streams are open: close other pages';

class Stream {  // one WebSocket that comes back by itself
	constructor(query, take) { this.query = query; this.take = take; this.delay = 250; this.open(); }

	open() {
		const url = new URL(`${API}/events?batch=true&${this.query}`, location.href.split('#')[0]);
		url.protocol = url.protocol.replace('http', 'ws');
		this.socket = new WebSocket(url);
		this.socket.onmessage = (event) => { this.delay = 250; S.full.delete(this); if (!this.closed) this.take(JSON.parse(event.data)); };
		this.socket.onclose = () => {
			if (this.closed) return;
			this.take({ type: 'lost' });
			this.ask();
			this.timer = setTimeout(() => this.open(), this.delay);
			this.delay = Math.min(this.delay * 2, 5000);
		};
	}

	async ask() {  // a WebSocket doesn't say why it was refused
		const stop = new AbortController();
		const { status } = await fetch(`${API}/events`, stop).catch(() => 0);
		stop.abort();
		if (this.closed) return;
		if (status === 401) login();
		if (status !== 503) return;
		S.full.add(this); redraw();
		if (!view) refuse($('main'), { message: FULL });
	}

	close() {
		this.closed = true; clearTimeout(this.timer); S.full.delete(this);
		const { socket } = this, end = () => socket.close();
		if (socket.readyState) end(); else socket.onopen = end;
	}
}

const STATES = 'process.started,process.exited,process.killed,process.daemon.started,process.daemon.stopped,'
	+ 'process.daemon.health,service.changed,pipeline.update,sample';

function takeState(message) {
	const { type, channel, data } = message;
	if (type === 'lost') {
		if (S.live !== 'bye') S.live = 'lost';
	} else if (type === 'bye') {
		S.live = 'bye';
		say('The server is being stopped');
	} else if (type === 'snapshot') {
		S.live = 'live';
		S.access = data.access; S.has = data.has;
		S.skew = new Date(message.timestamp) - Date.now();
		if (Math.abs(S.skew) < 5000) S.skew = 0;
		if (S.instance && S.instance !== data.instance) S.specs.clear();
		S.instance = data.instance;
		keep(S.services, data.services, (each) => each.id);
		keep(S.processes, data.processes, (each) => each.id);
		keep(S.daemons, data.daemons, (each) => `${each.code}/${each.daemon}`);
		keep(S.pipelines, [...data.pipelines].reverse(), (each) => each.id);
		S.samples = new Map(Object.entries(data.samples).map(([name, points]) => [name, { points }]));
		view?.fresh?.();
	} else if (type === 'event') {
		TAKE[channel]?.(data);
	}
	S.groups = Map.groupBy(all(), (each) => each.service);
	redraw();
}

function keep(map, rows, key) {
	map.clear();
	for (const row of rows) map.set(key(row), row);
}

const TAKE = {
	'process.started': (data) => S.processes.set(data.id, { ...data, running: true, status: 'running' }),
	'process.exited': (data) => S.processes.delete(data.id),
	'process.daemon.started': (data) => S.daemons.set(`${data.code}/${data.daemon}`, data),
	'process.daemon.stopped': (data) => S.daemons.delete(`${data.code}/${data.daemon}`),
	'process.daemon.health': (data) => Object.assign(S.daemons.get(`${data.code}/${data.daemon}`) || {}, data),
	'service.changed': (data) => {
		const had = S.services.has(data.name);
		if (data.unit) S.services.set(data.name, data.unit);
		else S.services.delete(data.name);
		if (had !== S.services.has(data.name)) view?.fresh?.();
		if (data.new === 'failed' || (data.new === 'ready' && data.old !== 'unready')) say(`${data.name} is ${data.new}`);
	},
	'pipeline.update': (data) => {
		const { specs, ...row } = data;
		S.pipelines.set(row.id, row);
		const known = S.specs.get(row.id);
		if (known) for (const spec of specs) known.set(spec.name, spec);
	},
	sample: (data) => {
		const seen = new Set();
		for (const each of data.services) {
			const series = S.samples.get(each.name) || { points: [] };
			series.points.push([each.cpu, each.memory]);
			if (series.points.length > 90) series.points.shift();
			series.latest = each;
			S.samples.set(each.name, series);
			seen.add(each.name);
		}
		for (const [name, series] of S.samples) if (!seen.has(name)) { series.points.push([0, 0]); series.latest = null; if (series.points.length > 90) series.points.shift(); }
	},
};

function say(message) {  // for screen readers
	const el = div('sr', message);
	$('toasts').append(el);
	setTimeout(() => el.remove(), 3000);
}

const may = () => S.access !== 'read';

// --- small drawings

const LOOK = {
	ready: ['good', 'disc'], running: ['good', 'disc'], passed: ['good', 'check'], completed: ['good', 'check'], healthy: ['good', 'disc'],
	starting: ['busy', 'spin'], stopping: ['busy', 'spin'], retrying: ['warn', 'spin'], waiting: ['idle', 'ring'], pending: ['idle', 'ring'],
	allowed: ['warn', 'cross'], unready: ['warn', 'tri'], backoff: ['warn', 'clock'], failed: ['bad', 'cross'], unhealthy: ['bad', 'tri'], killed: ['bad', 'cross'],
	skipped: ['idle', 'dash'], stopped: ['idle', 'square'], exited: ['idle', 'square'], unknown: ['idle', 'ring'],
};
const SHAPES = {
	disc: ['M7 2.2a4.8 4.8 0 1 0 0 9.6a4.8 4.8 0 1 0 0-9.6', true], ring: ['M7 3a4 4 0 1 0 0 8a4 4 0 1 0 0-8'],
	check: ['M2.5 7.5l3 3l6-7'], cross: ['M3.3 3.3l7.4 7.4M10.7 3.3l-7.4 7.4'], dash: ['M3 7h8'], plus: ['M3 7h8M7 3v8'], square: ['M3.5 3.5h7v7h-7z'],
	tri: ['M7 2.2l5.2 9.3H1.8zM7 6v2.6M7 10v.4'], clock: ['M7 2a5 5 0 1 0 0 10a5 5 0 1 0 0-10M7 4.5V7l2 1.3'], spin: ['M7 2.5a4.5 4.5 0 1 1-4.5 4.5'],
	play: ['M4 2.5l7.5 4.5l-7.5 4.5z', true], stop: ['M3 3h8v8h-8z', true], again: ['M11.5 5.5a4.8 4.8 0 1 0 .3 2.7M11.8 2.3v3.3H8.5'],
	pause: ['M4.5 3v8M9.5 3v8'], down: ['M7 2.5v7M3.8 6.7L7 9.9l3.2-3.2M2.5 12h9'], link: ['M6 8.2a2.6 2.6 0 0 0 3.7 0l1.7-1.7a2.6 2.6 0 0 0-3.7-3.7l-.8.8M8 5.8a2.6 2.6 0 0 0-3.7 0L2.6 7.5a2.6 2.6 0 0 0 3.7 3.7l.8-.8'],
	sun: ['M7 4.5a2.5 2.5 0 1 0 0 5a2.5 2.5 0 1 0 0-5M7 1v1.2M7 11.8V13M1 7h1.2M11.8 7H13M2.8 2.8l.8.8M10.4 10.4l.8.8M2.8 11.2l.8-.8M10.4 3.6l.8-.8'],
	moon: ['M11.5 8.5A5 5 0 1 1 5.5 2.5a4 4 0 0 0 6 6z'], auto: ['M7 2a5 5 0 1 0 0 10a5 5 0 1 0 0-10M7 2v10'], logs: ['M2.5 3.5h9M2.5 7h9M2.5 10.5h6'],
};

function glyph(name, cls = '') {
	const [d, solid] = SHAPES[name];
	return s('svg', { cls: `glyph ${cls}`, width: 14, height: 14, viewBox: '0 0 14 14', 'aria-hidden': 'true' }, s('path', { d, cls: `${solid ? 'solid' : ''} ${name === 'spin' ? 'spin' : ''}` }));
}

const look = (state) => LOOK[state] || LOOK.unknown;

function stateOf(state, label = state) {
	const [colour, shape] = look(state);
	return sp(`state ${colour}`, glyph(shape), sp('', label));
}

function pill(state, label = state) {
	const [colour, shape] = look(state);
	return sp(`pill ${colour}`, glyph(shape), label);
}

const stopper = (name, act, many = '') => button(`Stop${many}`, 'stop', act, { title: `Stop${many} ${name}`, cls: 'quiet danger' });

function button(label, icon, act, { cls = 'quiet', title = label, keys } = {}) {
	return h('button', { type: 'button', cls, title: keys ? `${title} (${keys})` : title, 'aria-label': title, onclick: act }, glyph(icon), sp('txt', label));
}

class Spark {  // CPU or memory of the last three minutes
	constructor(cls) {
		this.which = cls === 'cpu' ? 0 : 1;
		this.line = s('path', {});
		this.area = s('path', { cls: 'area' });
		this.val = sp('val');
		this.el = div(`meter ${cls}`, s('svg', { cls: 'spark hide-s', viewBox: '0 0 89 22', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, this.area, this.line), this.val);
	}

	update(series) {
		const points = series?.points || [];
		text(this.val, !series?.latest ? '–' : this.which ? size(series.latest.memory) : percent(series.latest.cpu));
		const values = points.map((point) => point[this.which]);
		const top = Math.max(this.which ? 1e6 : 0.05, ...values);
		const x0 = 90 - values.length;
		const path = values.length < 2 ? '' : `M${values.map((value, place) => `${x0 + place},${(20.5 - (value / top) * 19).toFixed(1)}`).join('L')}`;
		this.line.setAttribute('d', path);
		this.area.setAttribute('d', path && `${path}L89,22L${x0},22Z`);
	}
}

// --- logs

const ROW = 19;
const CAP = 50000;  // lines that the page keeps
const SHOWN = 3000;  // characters of a line that are drawn
const CUBE = [0, 95, 135, 175, 215, 255];

function colour256(index) {
	if (index < 16) return null;
	if (index > 231) { const grey = 8 + (index - 232) * 10; return `rgb(${grey},${grey},${grey})`; }
	index -= 16;
	return `rgb(${CUBE[Math.floor(index / 36)]},${CUBE[Math.floor(index / 6) % 6]},${CUBE[index % 6]})`;
}

// Cut a line at its escape sequences (ECMA-48) into [text, style]; all but colours is left out.
function ansi(line) {
	if (line.includes('\r')) line = line.replace(/\r+$/, '').replace(/^.*\r(?=[^\r])/s, '');  // a progress bar: its last state
	if (!line.includes('\x1b') && !line.includes('\x9b')) return [[line, null]];
	const parts = [];
	let style = {};
	let from = 0;
	for (const found of line.matchAll(/(?:\x1b\[|\x9b)([0-?]*)[ -/]*([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\|$)|\x1b[PX^_][^\x1b]*(?:\x1b\\|$)|\x1b[ -/]*[0-~]|\x1b/g)) {
		if (found.index > from) parts.push([line.slice(from, found.index), style]);
		from = found.index + found[0].length;
		if (found[2] === 'm') style = sgr(found[1], style);
		if (parts.length > 400) break;  // ANSI art: the rest is plain
	}
	if (from < line.length) parts.push([line.slice(from), style]);
	return parts;
}

const ON = { 1: 'bold', 2: 'dim', 3: 'it', 4: 'ul', 7: 'inverse' };  // off: 20 more

function sgr(codes, old) {
	let style = { ...old };
	const list = codes.split(/[;:]/).map(Number);
	for (let at = 0; at < list.length; at += 1) {
		const code = list[at];
		if (code === 0) style = {};
		else if (ON[code]) style[ON[code]] = true;
		else if (code > 21 && ON[code - 20]) { style[ON[code - 20]] = false; if (code === 22) style.bold = false; }
		else if (code >= 30 && code <= 37) style.fg = code - 30; else if (code >= 90 && code <= 97) style.fg = code - 82;
		else if (code >= 40 && code <= 47) style.bg = code - 40; else if (code >= 100 && code <= 107) style.bg = code - 92;
		else if (code === 39) delete style.fg; else if (code === 49) delete style.bg;
		else if (code === 38 || code === 48) {
			let value = null;
			if (list[at + 1] === 5) { value = list[at + 2] < 16 ? list[at + 2] : colour256(list[at + 2]); at += 2; }
			else if (list[at + 1] === 2) { value = `rgb(${list.slice(at + 2, at + 5).map((n) => Math.min(255, n || 0)).join(',')})`; at += 4; }
			if (value !== null) style[code === 38 ? 'fg' : 'bg'] = value;
		}
	}
	return style;
}

function visible(out, value) { value.split(INVISIBLE).forEach((piece, at) => { if (piece) out.push(at % 2 ? sp('ctl', sign(piece)) : piece); }); }

function pieces(value, grep) {
	const out = [];
	if (!grep) { visible(out, value); return out; }
	const low = value.toLowerCase();
	let from = 0;
	for (let at = low.indexOf(grep); at >= 0; at = low.indexOf(grep, from)) {
		visible(out, value.slice(from, at));
		const inner = [];
		visible(inner, value.slice(at, at + grep.length));
		out.push(h('mark', {}, ...inner));
		from = at + grep.length;
	}
	visible(out, value.slice(from));
	return out;
}

const paint = (colour) => (typeof colour === 'number' ? `var(--a${colour})` : colour);

function drawn(line, grep) {  // the nodes of a line
	const nodes = [];
	for (const [value, style] of ansi(line)) {
		const inner = pieces(value, grep);
		if (!style || !Object.keys(style).length) { nodes.push(...inner); continue; }
		const el = h(style.bold ? 'b' : 'span', { cls: [style.dim && 'dimmed', style.it && 'it', style.ul && 'ul'].filter(Boolean).join(' ') || null }, ...inner);
		const [fg, bg] = style.inverse ? [style.bg ?? 'var(--log-bg)', style.fg ?? 'var(--text)'] : [style.fg, style.bg];
		if (fg !== undefined) el.style.color = paint(fg);
		if (bg !== undefined) el.style.background = paint(bg);
		nodes.push(el);
	}
	return nodes;
}

const plain = (line) => ansi(line).map(([value]) => value).join('');
const tint = (name) => { let hash = 7; for (const char of name) hash = (hash * 31 + char.charCodeAt(0)) % 360; return hash; };
const whoOf = (row) => row.service + (row.replica > 1 ? `.${row.replica}` : '');
const clock = (at) => { const date = new Date(at); return [`${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`, `.${String(date.getMilliseconds()).padStart(3, '0')}`]; };

async function copy(value, what) {  // only a secure origin has a clipboard
	try { await navigator.clipboard.writeText(value); toast(`${what} was copied`, 'good'); } catch { toast(`${what} could not be copied: the browser forbids it here`, 'bad'); }
}

class Logs {
	constructor(root, query, { services, fixed, moved }) {
		this.services = services; this.fixed = fixed; this.moved = moved;
		this.grep = (query.get('grep') || '').toLowerCase(); this.at = Math.max(0, parseInt(query.get('at')) || 0);
		this.rows = []; this.base = 0; this.pool = new Map(); this.free = [];
		this.follow = !this.at; this.tail = false; this.paused = false; this.missed = 0; this.older = true; this.turn = 0; this.top = 0; this.queue = [];
		this.build(root);
		this.listen();
	}

	build(root) {
		this.search = h('input', { type: 'search', placeholder: 'Search all kept lines', 'aria-label': 'Search the logs', value: this.grep, spellcheck: 'false' });
		on(this.search, 'input', () => { clearTimeout(this.typing); this.typing = setTimeout(() => this.find(), 250); });
		on(this.search, 'keydown', (event) => { if (event.key === 'Escape') { if (this.search.value) { this.search.value = ''; this.find(); } this.scroll.focus(); event.stopPropagation(); } });
		this.pauseButton = button('Pause', 'pause', () => this.pause(), { cls: '', keys: 'p' });
		this.pauseButton.ariaPressed = false;
		this.count = sp('end hide-s');
		const tools = h('div', { cls: 'tools', role: 'toolbar', 'aria-label': 'Logs' }, this.fixed ? null : this.picker(), this.search, this.pauseButton,
			button('Download', 'down', () => this.download(), { cls: '' }), button('Copy link', 'link', () => this.link(), { cls: '' }), this.count);
		this.space = div('space');
		this.scroll = h('div', { cls: 'scroll', tabindex: '0', role: 'log', 'aria-live': 'off', 'aria-label': 'Log lines' }, this.space);
		this.jump = h('button', { type: 'button', cls: 'jump main', hidden: true, onclick: () => this.toEnd() }, 'Newest lines');
		this.none = h('p', { cls: 'empty', hidden: true });
		this.full = h('div', { cls: 'full', hidden: true });
		root.append(tools, div('logbox', this.scroll, this.none, this.jump), this.full);
		on(this.scroll, 'scroll', () => this.scrolled(), { passive: true });
		on(this.scroll, 'keydown', (event) => this.key(event));
		on(this.space, 'click', (event) => { if (!getSelection().isCollapsed) return; const el = event.target.closest('.ln'); if (el) this.select(Number(el.dataset.at)); });
		this.resize = new ResizeObserver(() => this.draw());
		this.resize.observe(this.scroll);
	}

	picker() {
		const summary = h('summary', {});
		const box = div();
		this.picked = h('details', { cls: 'pick', 'aria-label': 'Which services' }, summary, box);
		const say_ = () => text(summary, this.services.length ? this.services.join(', ') : 'All services');
		on(this.picked, 'toggle', () => {
			if (!this.picked.open) return;
			box.replaceChildren(...sources().map((name) => {
				const check = h('input', { type: 'checkbox' });
				check.checked = this.services.includes(name);
				on(check, 'change', () => {
					this.services = check.checked ? [...this.services, name] : this.services.filter((each) => each !== name);
					say_(); this.moved?.(); this.listen();
				});
				return h('label', {}, check, name);
			}));
		});
		say_();
		return this.picked;
	}

	query(more) {
		const given = { ...more, service: this.services.join(','), grep: this.grep, ignoreCase: this.grep ? 'true' : '' };
		return `/logs?${Object.entries(given).filter(([, value]) => value !== '' && value !== undefined).map(([name, value]) => `${name}=${part(value)}`).join('&')}`;
	}

	fetch(more) { return api(this.query(more)).catch(() => null); }

	async load() {  // begin at the newest lines, or around the linked one
		const turn = ++this.turn;
		this.loading = true;
		const around = this.at && !this.follow;
		const page = await this.fetch(around ? { after: Math.max(0, this.at - 200), limit: 500 } : { limit: 500 });
		if (turn !== this.turn) return;
		if (around && page?.lines.length === 0) { this.at = 0; this.follow = true; return this.load(); }  // a link into another run
		for (const el of this.pool.values()) el.remove();
		this.pool.clear(); this.free = [];
		this.rows = page ? page.lines : []; this.base = 0; this.chosen = null; this.full.hidden = true; this.missed = 0;
		this.older = around ? true : Boolean(page?.more);
		this.tail = !around || !page?.more;
		this.loaded();
		if (around) {
			const place = this.rows.findIndex((row) => row.cursor >= this.at);
			this.place();
			this.scroll.scrollTop = Math.max(0, place * ROW - this.scroll.clientHeight / 3);
			if (place >= 0) this.select(place);
		}
		this.draw();
	}

	listen() {  // the snapshot makes it load: what is written later comes as an event
		this.stream?.close();
		this.instance = ''; this.loading = true; this.queue = [];
		this.stream = new Stream(`channels=process.output&service=${part(this.services.join(','))}`, (message) => this.take(message));
	}

	take(message) {
		if (message.type === 'event') {
			const { data } = message;
			const rows = data.lines.map((line, place) => ({ line, cursor: data.cursor + place, service: data.service, replica: data.replica, stream: data.stream, at: message.timestamp }));
			if (this.loading) this.queue.push(rows); else this.append(rows);
		} else if (message.type === 'gap') {
			const row = { gap: message.missed, cursor: this.last() };
			if (!this.loading && this.tail && !this.paused) this.rows.push(row);
		} else if (message.type === 'snapshot') {
			const old = this.instance, same = old === message.instance;
			this.instance = message.instance;
			if (old && !same) { this.at = 0; this.follow = true; }
			if (same && !this.loading) this.catchUp(); else this.load();
		} else if (message.type === 'lost' && !this.rows.length) this.load();
		this.soon();
	}

	async catchUp() {
		if (this.loading) return;
		const { turn } = this;
		for (let more = true; more && this.tail && !this.paused;) {
			this.loading = true;
			const page = await this.fetch({ after: this.last(), limit: 5000 });
			if (turn !== this.turn) return;  // it is loaded anew
			if (page) this.append(page.lines, true);
			more = page?.more;
		}
		this.loaded();
	}

	loaded() {
		this.loading = false;
		for (const queued of this.queue.splice(0)) this.append(queued);
		this.soon();
	}

	last() { return this.rows.length ? this.rows[this.rows.length - 1].cursor : 0; }

	append(rows, found = false) {
		const last = this.last();
		let fresh = rows[0]?.cursor > last ? rows : rows.filter((row) => row.cursor > last);
		if (this.grep && !found) fresh = fresh.filter((row) => plain(row.line).toLowerCase().includes(this.grep));
		if (!fresh.length) return;
		if (!this.tail || this.paused || (!this.follow && this.rows.length >= CAP)) {
			this.missed += fresh.length;
			this.tail = this.tail && this.paused;
			return;
		}
		for (const row of fresh) this.rows.push(row);
		if (!this.follow) this.missed += fresh.length;
		if (this.follow && this.rows.length > CAP + 2000) { const gone = this.rows.length - CAP; this.rows.splice(0, gone); this.base += gone; this.older = true; }
	}

	soon() { if (!this.due) { this.due = true; later(() => { this.due = false; this.draw(); }); } }

	place() { const height = `${Math.max(1, this.rows.length) * ROW + 8}px`; if (this.space.style.height !== height) this.space.style.height = height; }

	draw() {
		if (document.hidden) return;
		this.place();
		if (this.follow) {  // worked out: a list that was cut still says its old place
			const end = Math.max(0, this.rows.length * ROW + 8 - this.scroll.clientHeight);
			this.scroll.scrollTop = end;
			this.top = Math.min(end, this.scroll.scrollTop);
		}
		const top = this.scroll.scrollTop;
		const first = Math.max(0, Math.floor(top / ROW) - 6);
		const last = Math.min(this.rows.length, Math.ceil((top + this.scroll.clientHeight) / ROW) + 6);
		for (const [at, el] of this.pool) if (at - this.base < first || at - this.base >= last) { this.pool.delete(at); this.free.push(el); }
		for (let index = first; index < last; index += 1) {
			const at = this.base + index;
			let el = this.pool.get(at);
			if (!el) { el = this.free.pop() || div('ln'); this.row(el, this.rows[index]); this.pool.set(at, el); if (!el.parentNode) this.space.append(el); }
			el.dataset.at = index;
			el.style.transform = `translateY(${index * ROW}px)`;
			el.classList.toggle('sel', at === this.chosen);
		}
		for (const el of this.free) el.remove();
		this.free.length = 0;
		const empty = !this.rows.length && !this.loading;
		this.none.hidden = !empty;
		if (empty) text(this.none, this.grep ? `No line contains “${this.grep}”` : 'No lines yet');
		this.jump.hidden = this.follow && !this.paused && this.tail;
		text(this.jump, this.missed ? `↓ ${plural(this.missed, 'new line')}` : '↓ Newest lines');
		text(this.count, `${plural(this.rows.length, 'line')}${this.older ? ', older above' : ''}`);
	}

	row(el, row) {
		if (row.gap) {
			el.className = 'ln gap';
			el.replaceChildren(`${plural(row.gap, 'line')} skipped: this page read too slowly`);
			return;
		}
		el.className = row.stream === 'stderr' ? 'ln err' : 'ln';
		const [hms, rest] = clock(row.at);
		const shown = row.line.length > SHOWN ? `${row.line.slice(0, SHOWN)} […]` : row.line;
		const who = this.fixed && !this.manyReplicas ? null : sp('who', whoOf(row));
		if (who) who.style.color = `light-dark(oklch(.45 .13 ${tint(row.service)}), oklch(.79 .1 ${tint(row.service)}))`;
		el.replaceChildren(h('time', {}, hms, h('i', {}, rest)), who || '', sp('src', row.stream === 'stderr' ? sp('sr', 'stderr') : ''), sp('', ...drawn(shown, this.grep)));
	}

	scrolled() {
		const top = this.scroll.scrollTop;
		const gap = this.scroll.scrollHeight - top - this.scroll.clientHeight;
		if (this.follow) { if (top < this.top - ROW) this.follow = false; }  // it was the reader who went up
		else if (gap < ROW * 1.5 && this.tail && top > this.top) { this.follow = true; this.missed = 0; }
		if (gap < ROW * 60 && !this.tail) this.newer();
		this.top = top;
		if (top < ROW * 80 && this.older && this.rows.length) this.loadOlder();
		this.soon();
	}

	async loadOlder() {
		if (this.loadingOlder) return;
		this.loadingOlder = true;
		const turn = this.turn;
		const page = await this.fetch({ before: this.rows[0].cursor, limit: 1000 });
		this.loadingOlder = false;
		if (turn !== this.turn || !page) return;
		this.older = page.more;
		this.rows.unshift(...page.lines);
		this.base -= page.lines.length;
		if (!this.follow) { this.place(); this.scroll.scrollTop += page.lines.length * ROW; this.top = this.scroll.scrollTop; }
		if (this.rows.length > CAP * 2) { this.rows.length = CAP; this.tail = false; }
		this.draw();
	}

	async newer() {
		if (this.loadingNewer) return;
		this.loadingNewer = true;
		const turn = this.turn;
		const page = await this.fetch({ after: this.last(), limit: 1000 });
		this.loadingNewer = false;
		if (turn !== this.turn || !page) return;
		const tail = this.tail;
		this.tail = true; this.append(page.lines, true); this.tail = tail || !page.more;
		if (this.tail) { this.missed = 0; this.catchUp(); }
		this.draw();
	}

	find() {
		const grep = this.search.value.toLowerCase();
		if (grep === this.grep) return;
		this.grep = grep; this.at = 0; this.follow = true;
		this.moved?.();
		this.load();
	}

	pause(on = !this.paused) {
		this.paused = on;
		this.pauseButton.ariaPressed = on;
		if (!on) { this.missed = 0; this.catchUp(); }
		this.draw();
	}

	toEnd() {
		this.at = 0; this.follow = true; this.missed = 0;
		if (this.paused) this.pause(false);
		if (!this.tail) this.load();
		this.draw();
		this.moved?.();
	}

	select(index) {
		const row = this.rows[index];
		if (!row || row.gap) return;
		this.chosen = this.base + index;
		this.at = row.cursor;
		this.full.hidden = false;
		this.full.replaceChildren(h('header', {}, h('b', {}, whoOf(row)), ...[row.stream, new Date(row.at).toLocaleString(), `#${row.cursor}`].map((each) => sp('', each)),
			button('Copy', 'link', () => copy(plain(row.line), 'The line')), button('Close', 'cross', () => { this.full.hidden = true; this.chosen = null; this.at = 0; this.moved?.(); this.draw(); })),
		h('pre', {}, ...drawn(row.line.slice(0, 200000), this.grep)));
		this.moved?.();
		this.draw();
	}

	key(event) {
		const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
		if (step && this.chosen !== null && this.chosen !== undefined && !event.ctrlKey) {
			const next = this.chosen - this.base + step;
			if (next < 0 || next >= this.rows.length) return;
			event.preventDefault();
			this.select(next);
			const top = next * ROW;
			if (top < this.scroll.scrollTop) this.scroll.scrollTop = top;
			else if (top + ROW > this.scroll.scrollTop + this.scroll.clientHeight) this.scroll.scrollTop = top + ROW - this.scroll.clientHeight;
		} else if (event.key === 'End') { event.preventDefault(); this.toEnd(); }
		else if (event.key === 'Escape' && !this.full.hidden) { this.full.querySelector('button:last-of-type').click(); event.stopPropagation(); }
	}

	async download() {
		const chunks = [];
		let after = 0;
		for (let round = 0; round < 400; round += 1) {
			const page = await this.fetch({ after, limit: 5000 });
			if (!page) return;
			chunks.push(page.lines.map((row) => `${row.at} ${whoOf(row)} ${row.stream} ${row.line}\n`).join(''));
			if (!page.more) break;
			after = page.last;
		}
		const url = URL.createObjectURL(new Blob(chunks, { type: 'text/plain' }));
		h('a', { href: url, download: `${this.services.join('-') || 'logs'}.log` }).click();
		setTimeout(() => URL.revokeObjectURL(url), 10000);
	}

	link() {
		this.moved?.();
		copy(location.href, 'The link');
	}

	close() { this.stream.close(); this.resize.disconnect(); this.turn += 1; }
}

function sources() {
	const names = new Set(S.groups.keys());
	for (const each of S.processes.values()) if (!S.services.has(each.service)) names.add(each.service);
	for (const specs of S.specs.values()) for (const name of specs.keys()) names.add(name);
	return [...names].sort();
}

// --- views

class Table {  // rows that stay when their values change
	constructor(columns, make) {
		this.make = make;
		this.body = h('tbody', {});
		this.rows = new Map();
		this.el = h('table', {}, h('colgroup', {}, ...columns.map(([, width, cls]) => { const col = h('col', { cls }); if (width) col.style.width = width; return col; })),
			h('thead', {}, h('tr', {}, ...columns.map(([name, , cls]) => h('th', { cls, scope: 'col' }, name.startsWith('!') ? sp('sr', name.slice(1)) : name)))), this.body);
	}

	update(items) {
		for (const [id, row] of this.rows) if (!items.has(id)) { row.el.remove(); this.rows.delete(id); }
		let before = null;
		for (const [id, item] of items) {
			let row = this.rows.get(id);
			if (!row) { row = this.make(id); this.rows.set(id, row); }
			if (row.el.previousElementSibling !== before || !row.el.parentNode) before ? before.after(row.el) : this.body.prepend(row.el);
			before = row.el;
			row.update(item);
		}
	}
}

function why(unit) {
	if (unit.state === 'waiting' && unit.waitingFor?.length) return `for ${unit.waitingFor.join(', ')}`;
	const lines = (unit.error || '').replace(/^\w+: /, '').replace(/^`[^]*?` (?=\w+ )/, '').split('\n');
	const reason = lines[0] + (lines.length > 2 ? `: ${lines.at(-1).trim()}` : '');
	return again(unit) ? `again ${again(unit)}: ${reason}` : reason;
}

const again = (unit) => unit.state === 'backoff' && unit.nextStart && `in ${span(Math.max(0, (new Date(unit.nextStart) - now()) / 1000))}`;

const manyOf = (unit) => (S.groups.get(unit.service)?.length > 1 ? ' all' : '');

function serviceActs(unit) {
	if (!may()) return [];
	const { service } = unit, many = manyOf(unit);
	const act = (verb, done) => () => call(`/services/${part(service)}/${verb}`, `${service} is being ${done}`);
	if (['stopped', 'completed', 'failed', 'skipped'].includes(unit.state)) return [button('Start', 'play', act('start', 'started'), { title: `Start ${service}` })];
	return [button(`Restart${many}`, 'again', act('restart', 'restarted'), { title: `Restart${many} ${service}` }), stopper(service, act('stop', 'stopped'), many)];
}

function serviceRow(id) {
	const state = td(''), up = td('num hide-s'), again = td('num hide-m'), acts = td('acts');
	const reason = sp('why');
	const cpu = new Spark('cpu'), mem = new Spark('mem');
	const el = h('tr', {}, td('name', h('a', { href: `#/service/${part(id)}` }, id), reason), state, up, td('hide-m', cpu.el), td('hide-m', mem.el), again, acts);
	return {
		el,
		update(unit) {
			swap(state, unit.state, () => stateOf(unit.state));
			tip(reason, why(unit), unit.error || '');
			text(up, unit.since ? since(unit.since) : '');
			text(again, unit.restarts ? number(unit.restarts) : '–');
			cpu.update(S.samples.get(id)); mem.update(S.samples.get(id));
			swap(acts, unit.state + S.access + manyOf(unit), () => serviceActs(unit));
		},
	};
}

function processRow(id) {
	const name = h('a', {}), command = td('mono dim hide-s'), up = td('num'), pid = td('num hide-m'), acts = td('acts');
	const cpu = new Spark('cpu'), mem = new Spark('mem');
	const el = h('tr', {}, td('name', name), command, up, td('hide-m', cpu.el), td('hide-m', mem.el), pid, acts);
	return {
		el,
		update(process) {
			const label = process.name || id;
			text(name, label); name.href = `#/logs?service=${part(process.service)}`;
			tip(command, [process.command, ...process.args].join(' '));
			text(up, since(process.startedAt)); text(pid, String(process.pid ?? ''));
			cpu.update(S.samples.get(id)); mem.update(S.samples.get(id));
			swap(acts, S.access, () => (may() ? [stopper(label, () => call(`/processes/${part(id)}/stop`, `${label} is being stopped`))] : []));
		},
	};
}

function daemonRow(id) {
	const state = td(''), address = td('mono dim hide-m'), up = td('num'), project = td('dim hide-s'), pid = td('num hide-s'), acts = td('acts');
	const reason = sp('why');
	const el = h('tr', {}, td('name', id, reason), state, project, address, pid, up, acts);
	return {
		el,
		update(daemon) {
			const found = daemon.healthy === undefined ? (daemon.health ? 'unknown' : 'running') : daemon.healthy ? 'healthy' : 'unhealthy';
			swap(state, found, () => stateOf(found));
			text(reason, daemon.healthy === false ? daemon.reason : ''); text(address, daemon.health || ''); tip(project, daemon.project || '');
			text(pid, String(daemon.pid)); text(up, since(daemon.started));
			swap(acts, S.access, () => (may() ? [stopper(id, async () => {
				if (await ask(`Stop ${id}?`, 'It belongs to another program, and can’t be started again from here.', 'Stop')) call(`/daemons/${part(daemon.code)}/${part(daemon.daemon)}/stop`, `${id} was told to stop`);
			})] : []));
		},
	};
}

function counts(pipeline) {
	const order = ['running', 'retrying', 'failed', 'passed', 'skipped', 'pending'];
	return sp('dots', ...order.filter((each) => pipeline.counts[each]).map((each) => { const el = stateOf(each, String(pipeline.counts[each])); el.title = each; el.append(sp('sr', each)); return el; }));
}

function pipelineRow(id) {
	const name = h('a', { href: `#/pipeline/${part(id)}` }), state = td(''), tasks = td('hide-s'), took = td('num'), began = td('num dim hide-m'), acts = td('acts'), reason = sp('why');
	const el = h('tr', {}, td('name', name, reason), state, tasks, began, took, acts);
	return {
		el,
		update(pipeline) {
			text(name, pipeline.name); tip(reason, pipeline.error || '');
			swap(state, pipeline.state, () => stateOf(pipeline.state === 'running' ? 'starting' : pipeline.state, pipeline.state));
			swap(tasks, JSON.stringify(pipeline.counts), () => counts(pipeline));
			text(began, clock(pipeline.began)[0]);
			text(took, span(((pipeline.ended ? new Date(pipeline.ended) : now()) - new Date(pipeline.began)) / 1000));
			swap(acts, `${pipeline.stoppable}${S.access}`, () => pipelineActs(pipeline));
		},
	};
}

function pipelineActs(pipeline) {
	if (!may() || !pipeline.stoppable) return [];
	return [stopper(pipeline.name, () => call(`/pipelines/${part(pipeline.id)}/stop`, `${pipeline.name} is being stopped`))];
}

const USE = [['CPU', '170px', 'num hide-m'], ['Memory', '174px', 'num hide-m']];
const pipelineTable = () => new Table([['Pipeline', '26%'], ['State', '128px'], ['Tasks', '', 'hide-s'], ['Began', '100px', 'num hide-m'], ['Took', '110px', 'num'], ['!Actions', '100px']], pipelineRow);

class Overview {
	constructor(root) {
		this.page = div('page', h('h1', { cls: 'sr' }, 'Overview'));
		root.append(this.page);
		this.parts = [
			this.section('Services', new Table([['Service', '26%'], ['State', '128px'], ['For', '100px', 'num hide-s'], ...USE, ['Restarts', '80px', 'num hide-m'], ['!Actions', '216px']], serviceRow),
				() => S.services, () => S.has.services),
			this.section('Pipelines', pipelineTable(),
				() => new Map([...S.pipelines].reverse()), () => S.pipelines.size > 0),
			this.section('Processes', new Table([['Process', '20%'], ['Command', '', 'hide-s'], ['Uptime', '110px', 'num'], ...USE, ['PID', '80px', 'num hide-m'], ['!Actions', '100px']], processRow),
				() => new Map([...S.processes].filter(([, each]) => !S.services.has(each.service))), (rows) => rows.size > 0 || (S.has.processes && !S.has.services && !S.pipelines.size)),
			this.section('Daemons', new Table([['Daemon', '24%'], ['State', '128px'], ['Project', '', 'hide-s'], ['Health', '180px', 'hide-m'], ['PID', '80px', 'num hide-s'], ['Uptime', '110px', 'num'], ['!Actions', '100px']], daemonRow),
				() => S.daemons, () => S.has.daemons),
		];
		this.update();
	}

	section(title, table, rows, shown) {
		const note = sp('dim');
		const empty = h('p', { cls: 'empty' }, `No ${title.toLowerCase()}`);
		const el = h('section', { 'aria-label': title }, h('header', {}, h('h2', {}, title), note), div('card', table.el, empty));
		this.page.append(el);
		return () => {
			const found = rows();
			el.hidden = !shown(found);
			if (el.hidden) return;
			table.update(found);
			table.el.hidden = !found.size; empty.hidden = Boolean(found.size);
			text(note, found.size > 9 ? String(found.size) : '');
		};
	}

	update() { for (const each of this.parts) each(); }
}

function facts(el, rows) {
	const shown = rows.filter(([, value]) => value !== undefined && value !== null && value !== '');
	const key = JSON.stringify(shown.map(([name]) => name));
	if (el.dataset.key !== key) { el.dataset.key = key; el.replaceChildren(...shown.map(([name]) => div('', h('dt', {}, name), h('dd', {})))); }
	shown.forEach(([, value], place) => tip(el.children[place].lastChild, String(value)));
}

class ServiceView {
	constructor(root, id, query) {
		this.id = id;
		const unit = S.services.get(id);
		this.service = unit?.service || id;
		this.state = sp('');
		this.acts = div('acts');
		this.facts = h('dl', { cls: 'facts' });
		this.notice = h('div', { cls: 'notice', hidden: true });
		this.cpu = new Spark('cpu'); this.mem = new Spark('mem');
		const el = div('view', div('head', h('h1', {}, id, this.state), div('meter hide-m', this.cpu.el, this.mem.el), this.acts, this.facts), this.notice);
		root.append(el);
		this.logs = new Logs(el, query, { services: [this.service], fixed: true, moved: () => keepView(`/service/${part(id)}`, this.logs) });
		this.update();
	}

	update() {
		const unit = S.services.get(this.id);
		if (!unit) { swap(this.state, 'gone', () => pill('unknown')); this.acts.replaceChildren(); return; }
		const replicas = S.groups.get(this.service), many = replicas.length;
		this.logs.manyReplicas = replicas.some((each) => each.replica > 1);
		swap(this.state, unit.state, () => pill(unit.state));
		swap(this.acts, `${unit.state}${S.access}${many}`, () => {
			const acts = serviceActs(unit);
			for (const each of acts) each.classList.remove('quiet');
			if (may()) {
				const step = (icon, word, count) => button('', icon, () => call(`/services/${part(this.service)}/replicas`, `${this.service} is being scaled to ${count}`, 'PUT', { replicas: count }), { title: `One replica ${word}`, cls: '' });
				const less = step('dash', 'less', many - 1);
				less.disabled = many < 2;
				acts.unshift(h('span', { cls: 'state dim', role: 'group', 'aria-label': 'Replicas' }, less, sp('', plural(many, 'replica')), step('plus', 'more', many + 1)));
			}
			return acts;
		});
		const needs = Object.entries(unit.after || {}).map(([name, condition]) => (condition === 'ready' ? name : `${name} (${condition})`)).join(', ');
		facts(this.facts, [['For', since(unit.since)], ['PID', unit.pid], ['Run', unit.generation], ['Restarts', unit.restarts || null], ['Exit code', unit.exitCode], ['Needs', needs], ['Waits', unit.waitingFor?.length ? `for ${unit.waitingFor.join(', ')}` : null], ['Next start', again(unit) || null]]);
		this.notice.hidden = !unit.error; text(this.notice, unit.error || '');
		this.cpu.update(S.samples.get(this.id)); this.mem.update(S.samples.get(this.id));
	}

	close() { this.logs.close(); }
}

class LogsView {
	constructor(root, query) {
		const el = div('view', h('h1', { cls: 'sr' }, 'Logs'));
		root.append(el);
		const services = (query.get('service') || '').split(',').filter(Boolean);
		this.logs = new Logs(el, query, { services, moved: () => keepView('/logs', this.logs, true) });
	}

	update() {}

	close() { this.logs.close(); }
}

function keepView(path, logs, withServices = false) {  // the address always leads back to what is seen
	if (!logs) return;
	const query = new URLSearchParams();
	if (withServices && logs.services.length) query.set('service', logs.services.join(','));
	if (logs.grep) query.set('grep', logs.grep);
	if (logs.at) query.set('at', logs.at);
	const rest = query.toString();
	history.replaceState(null, '', `#${path}${rest ? `?${rest}` : ''}`);
}

// Lay out a graph from left to right: a layer is the longest way from a root. An edge over several has a waypoint in each.
function layout(nodes, edges) {
	const known = new Set(nodes.map((each) => each.id));
	const real = edges.filter((edge) => known.has(edge.from) && known.has(edge.to) && edge.from !== edge.to);
	const layer = new Map();
	const deep = (id, path) => {
		if (layer.has(id)) return layer.get(id);
		if (path.has(id)) return 0;  // a cycle
		path.add(id);
		const found = Math.max(-1, ...real.filter((edge) => edge.to === id).map((edge) => deep(edge.from, path))) + 1;
		path.delete(id);
		layer.set(id, found);
		return found;
	};
	for (const node of nodes) deep(node.id, new Set());
	const layers = [], left = new Map(), right = new Map();
	const join = (from, to) => { (right.get(from) || right.set(from, []).get(from)).push(to); (left.get(to) || left.set(to, []).get(to)).push(from); };
	for (const node of nodes) (layers[layer.get(node.id)] ||= []).push(node.id);
	for (const edge of real) {
		edge.way = [edge.from];
		for (let at = layer.get(edge.from) + 1; at < layer.get(edge.to); at += 1) { const point = {}; layers[at].push(point); layer.set(point, at); edge.way.push(point); }
		edge.way.push(edge.to);
		edge.way.slice(1).forEach((each, at) => join(edge.way[at], each));
	}
	const rank = new Map();
	const place = (ids) => ids.forEach((id, at) => rank.set(id, at - (ids.length - 1) / 2));
	layers.forEach(place);
	const mean = (ids, id) => (ids?.length ? ids.reduce((sum, each) => sum + rank.get(each), 0) / ids.length : rank.get(id));
	for (let round = 0; round < 12; round += 1) {
		const around = round % 2 ? right : left;
		for (const ids of round % 2 ? [...layers].reverse() : layers) { const want = new Map(ids.map((id) => [id, mean(around.get(id), id)])); ids.sort((a, b) => want.get(a) - want.get(b)); place(ids); }
	}
	return { layers, rank, layer, real };
}

function refuse(el, error) {
	el.replaceChildren(h('p', { cls: 'empty' }, error.message));
}

class Graph {
	constructor(root, load) { this.load = load; this.el = div('graph'); root.append(this.el); this.fresh(); }

	async fresh() {
		try { this.graph = await this.load(); } catch (error) { return refuse(this.el, error); }
		this.draw();
	}

	draw() {
		const { nodes, edges } = this.graph;
		if (!nodes.length) { this.el.replaceChildren(h('p', { cls: 'empty' }, 'Nothing is there')); return; }
		const { layers, rank, layer, real } = layout(nodes, edges);
		const W = Math.min(230, 60 + 8 * Math.max(...nodes.map((each) => each.name.length))), H = 48, GX = 84, GY = 20;
		const tall = Math.max(...layers.map((ids) => ids.length));
		const width = layers.length * (W + GX) - GX + 4, height = tall * (H + GY) - GY + 4;
		const x = (id) => 2 + layer.get(id) * (W + GX), y = (id) => height / 2 + rank.get(id) * (H + GY);
		this.shown = new Map();
		const lines = real.map((edge) => {
			let d = '';
			edge.way.slice(1).forEach((to, at) => {
				const from = edge.way[at], x1 = x(from) + W, x2 = x(to) - (to === edge.to ? 7 : 0), bend = (x1 + x2) / 2;
				d += `${d ? 'H' : 'M'}${x1}${d ? '' : `,${y(from)}`}C${bend},${y(from)} ${bend},${y(to)} ${x2},${y(to)}`;
			});
			const last = edge.way.at(-2), end = x(edge.to);
			const label = edge.condition && edge.condition !== 'ready' ? s('text', { cls: 'cond', x: end - GX / 2, y: (y(last) + y(edge.to)) / 2 - 4 }, edge.condition) : null;
			return s('g', { 'data-from': edge.from, 'data-to': edge.to }, s('path', { cls: 'edge', d }), s('path', { cls: 'arrow', d: `M${end - 1},${y(edge.to)}l-7,-4v8z` }), label);
		});
		const boxes = nodes.map((node) => {
			const sub = s('text', { cls: 'sub', x: 33, y: 36 }), icon = s('g', { transform: 'translate(11,26)' }), group = s('g', {});
			const short = node.name.length > 24 ? `${node.name.slice(0, 23)}…` : node.name;
			group.append(icon, sub);
			this.shown.set(node.id, { sub, icon, group });
			const light = (on) => { for (const line of lines) if (line.dataset.from === node.id || line.dataset.to === node.id) line.firstChild.classList.toggle('hot', on); };
			return s('a', { href: node.href || `#/service/${part(node.id)}`, transform: `translate(${x(node.id)},${y(node.id) - H / 2})`, onpointerenter: () => light(true), onpointerleave: () => light(false), onfocus: () => light(true), onblur: () => light(false) },
				s('rect', { width: W, height: H, rx: 9 }), s('text', { x: 12, y: 20, 'font-weight': 550 }, short), group);
		});
		this.el.replaceChildren(s('svg', { width, height, viewBox: `0 0 ${width} ${height}`, role: 'group', 'aria-label': 'Which needs which' }, ...lines, ...boxes));
		this.update();
	}

	update() {
		for (const [id, { sub, icon, group }] of this.shown || []) {
			const state = this.stateOf(id);
			const [colour, shape] = look(state);
			group.setAttribute('class', colour);
			text(sub, this.labelOf?.(id) || state);
			swap(icon, shape, () => glyph(shape));
		}
	}

	stateOf(id) { return (S.groups.get(id) || []).map((each) => each.state).sort((a, b) => rankOf(a) - rankOf(b))[0] || 'unknown'; }
}

const toned = (spec) => (spec?.state === 'failed' && spec.allowFailure ? 'allowed' : spec?.state);
const rankOf = (state) => ['failed', 'unready', 'backoff', 'starting', 'stopping', 'waiting', 'skipped', 'stopped', 'ready', 'completed'].indexOf(state);

class GraphView {
	constructor(root) {
		const el = div('view', h('h1', { cls: 'sr' }, 'Dependency graph'));
		root.append(el);
		this.graph = new Graph(el, () => api('/graph'));
	}

	fresh() { this.graph.fresh(); }

	update() { this.graph.update(); }
}

class PipelineView {
	constructor(root, id, query) {
		this.id = id;
		this.name = sp(''); this.state = sp(''); this.acts = div('acts'); this.facts = h('dl', { cls: 'facts' });
		this.as = query.get('as') === 'graph' ? 'graph' : 'time';
		const tab = (as, label) => h('button', { type: 'button', 'aria-pressed': String(this.as === as), onclick: () => { history.replaceState(null, '', `#/pipeline/${part(id)}${as === 'graph' ? '?as=graph' : ''}`); route(); } }, label);
		this.acts2 = div('acts', tab('time', 'Timeline'), tab('graph', 'Graph'), this.acts);
		this.el = div('view', div('head', h('h1', {}, this.name, this.state), this.acts2, this.facts));
		root.append(this.el);
		this.rows = new Map();
		this.list = h('ol', {}); this.ticks = div('ticks');
		this.fresh();
	}

	async fresh() {
		const { id } = this, known = S.specs.get(id) || new Map(), old = new Map(known), was = S.pipelines.get(id);
		S.specs.set(id, known);
		let found;
		try { found = await api(`/pipelines/${part(id)}`); } catch (error) { return refuse(this.el, error); }
		const { specs, ...row } = found;
		for (const spec of specs) if (known.get(spec.name) === old.get(spec.name)) known.set(spec.name, spec);  // else newer
		if (S.pipelines.get(id) === was) S.pipelines.set(id, row);
		this.body?.remove();
		if (this.as === 'graph') {
			this.body = div('view');
			this.el.append(this.body);
			const edges = specs.flatMap((spec) => spec.after.map((from) => ({ from, to: spec.name })));
			this.graph = new Graph(this.body, async () => ({ nodes: specs.map((spec) => ({ id: spec.name, name: spec.name, href: `#/logs?service=${part(spec.name)}` })), edges }));
			this.graph.stateOf = (name) => toned(S.specs.get(this.id).get(name));
		} else {
			this.body = div('gantt', h('div', { cls: 'axis', 'aria-hidden': 'true' }, sp(''), this.ticks, sp('')), this.list);
			this.el.append(this.body);
		}
		this.update();
	}

	row(name) {
		const bar = sp('bar'), state = sp(''), took = sp('num'), out = h('div', { cls: 'out', hidden: true });
		const track = sp('track', bar);
		const head = h('button', { type: 'button', cls: 'task', 'aria-expanded': 'false', onclick: () => { out.hidden = !out.hidden; head.ariaExpanded = !out.hidden; this.update(); } }, state, track, took);
		this.list.append(h('li', {}, head, out));
		return { bar, state, took, out, track };
	}

	update() {
		const pipeline = S.pipelines.get(this.id), specs = S.specs.get(this.id);
		if (!pipeline || !specs || !this.body) return;
		text(this.name, pipeline.name);
		const shown = pipeline.state === 'running' ? 'starting' : pipeline.state;
		swap(this.state, pipeline.state, () => pill(shown, pipeline.state));
		swap(this.acts, `${pipeline.stoppable}${S.access}`, () => pipelineActs(pipeline).map((each) => { each.classList.remove('quiet'); return each; }));
		const began = new Date(pipeline.began) / 1000, end = (pipeline.ended ? new Date(pipeline.ended) : now()) / 1000;
		const total = Math.max(end - began, 0.001);
		facts(this.facts, [['Began', new Date(pipeline.began).toLocaleString()], ['Took', span(total)], ['Tasks', Object.entries(pipeline.counts).map(([state, count]) => `${count} ${state}`).join(', ')]]);
		if (this.graph) { this.graph.update(); return; }
		const most = this.list.clientWidth < 500 ? 3 : 6;
		const step = [1, 2, 5, 10, 20].map((each) => each * 10 ** Math.floor(Math.log10(total / most))).find((each) => total / each <= most * 1.3);
		this.body.style.setProperty('--step', `${(step / total) * 100}%`);
		swap(this.ticks, `${step} ${total.toFixed(pipeline.ended ? 2 : 1)}`, () => Array.from({ length: Math.floor(total / step) + 1 }, (_, place) => {
			const el = sp('', place ? span(place * step) : '0');
			el.style.left = `${((place * step) / total) * 100}%`;
			return el;
		}));
		for (const [name, spec] of specs) {
			let row = this.rows.get(name);
			if (!row) { row = this.row(name); this.rows.set(name, row); }
			const [colour] = look(toned(spec));
			swap(row.state, spec.state, () => { const el = stateOf(toned(spec), name); el.title = clean(name); el.append(sp('sr', spec.state)); return el; });
			row.bar.className = `bar ${spec.state === 'running' ? 'busy' : colour}`;
			row.bar.hidden = spec.started === null;
			if (spec.started !== null) {
				row.bar.style.left = `${Math.max(0, ((spec.started - began) / total) * 100)}%`;
				row.bar.style.width = `${(((spec.ended || end) - spec.started) / total) * 100}%`;
				text(row.took, span((spec.ended || end) - spec.started));
			} else text(row.took, '');
			if (!row.out.hidden) this.details(row.out, spec);
		}
	}

	details(out, spec) {
		swap(out, JSON.stringify([spec.state, spec.attempts]), () => [h('code', {}, spec.command), spec.after.length ? div('dim', `after ${spec.after.join(', ')}`) : '',
			spec.attempts > 1 ? div('dim', `${spec.attempts} attempts`) : '', spec.result?.error ? h('pre', { cls: 'bad' }, spec.result.error) : '',
			spec.result?.output ? h('pre', {}, ...spec.result.output.trimEnd().split('\n').slice(-40).flatMap((line) => [...drawn(line), '\n'])) : '',
			h('a', { cls: 'button', href: `#/logs?service=${part(spec.name)}` }, glyph('logs'), 'All lines')]);
	}
}

class PipelinesView {
	constructor(root) {
		this.table = pipelineTable();
		this.empty = h('p', { cls: 'empty' }, 'No pipeline was run yet');
		root.append(div('page', h('section', {}, h('header', {}, h('h1', {}, 'Pipelines')), div('card', this.table.el, this.empty))));
		this.update();
	}

	update() { this.table.update(new Map([...S.pipelines].reverse())); this.table.el.hidden = !S.pipelines.size; this.empty.hidden = S.pipelines.size > 0; }
}

let stream = null;

function login(message = '') {
	stream?.close(); stream = null;
	view?.close?.();
	const field = h('input', { type: 'password', 'aria-label': 'Token', autocomplete: 'current-password', placeholder: 'Token', required: true });
	const note = h('p', { cls: 'bad', role: 'alert' }, message);
	const form = h('form', { cls: 'card login' }, h('h1', {}, 'Log in'), h('p', { cls: 'dim' }, 'The server printed its token when it was started.'), field, note, h('button', { cls: 'main' }, 'Log in'));
	on(form, 'submit', async (event) => { event.preventDefault(); try { await api('/session', 'POST', { token: field.value }); start(); } catch (error) { text(note, error.message); field.select(); } });
	$('main').replaceChildren(form);
	view = null; S.live = 'login';
	chrome();
	field.focus();
}

// --- routing and keyboard

function tabs() {
	const found = [['#/', 'Overview', null]];
	if (S.has.processes) found.push(['#/logs', 'Logs', null]);
	if (S.has.services) found.push(['#/graph', 'Graph', null]);
	if (S.pipelines.size) found.push(['#/pipelines', 'Pipelines', S.pipelines.size]);
	return found;
}

function chrome() {
	const here = location.hash || '#/';
	const found = S.live === 'login' ? [] : tabs();
	swap($('tabs'), JSON.stringify([found, here]), () => found.map(([href, label, count]) => h('a', { href, 'aria-current': (href === '#/' ? here === '#/' || here.startsWith('#/service/') : here.startsWith(href.replace(/s$/, ''))) ? 'page' : null }, label, count ? sp('count', String(count)) : null)));
	const units = all().filter((each) => each.state !== 'completed');
	const bad = units.filter((each) => ['failed', 'unready', 'backoff', 'skipped'].includes(each.state)).length;
	const good = units.filter((each) => each.state === 'ready').length;
	const said = S.live !== 'bye' && S.full.size ? ['unready', FULL] : { connecting: ['starting', 'Connecting'], lost: ['unready', 'Connection lost, trying again'], bye: ['stopped', 'The server is being stopped'], login: ['waiting', 'Not logged in'] }[S.live]
		|| (bad ? ['failed', `${plural(bad, 'service')} in trouble`] : ['ready', units.length ? `${good} of ${units.length} ready` : 'Live']);
	swap($('health'), said.join(), () => { const el = stateOf(said[0], said[1]); el.lastChild.className = 'txt'; el.title = said[1]; return el; });
	document.title = clean(`${bad && S.live === 'live' ? `(${bad}) ` : ''}${titleOf(here)}trio-process`);
}

function decoded(raw = '') { try { return decodeURIComponent(raw); } catch { return raw; } }

function titleOf(here) {
	const [, kind, name] = here.split('?')[0].split('/');
	if (kind === 'service') return `${decoded(name)} · `;
	return { logs: 'Logs · ', graph: 'Graph · ', pipelines: 'Pipelines · ', pipeline: `${S.pipelines.get(name)?.name || 'Pipeline'} · ` }[kind] || '';
}

function route() {
	const here = (location.hash || '#/').slice(1);
	const [path, rest] = here.split('?');
	const query = new URLSearchParams(rest || '');
	const [, kind, raw] = path.split('/');
	const name = decoded(raw);
	view?.close?.();
	const main = $('main');
	main.replaceChildren();
	main.scrollTop = 0;
	if (kind === 'service' && name) view = new ServiceView(main, name, query);
	else if (kind === 'logs') view = new LogsView(main, query);
	else if (kind === 'graph') view = new GraphView(main);
	else if (kind === 'pipelines') view = new PipelinesView(main);
	else if (kind === 'pipeline' && name) view = new PipelineView(main, name, query);
	else view = new Overview(main);
	chrome();
}

const KEYS = [['g o', 'Overview'], ['g l', 'Logs'], ['g g', 'Graph'], ['g p', 'Pipelines'], ['j / k', 'Next, previous row'], ['Enter', 'Open the row'], ['r', 'Restart'], ['s', 'Start or stop'], ['/', 'Search the logs'], ['p', 'Pause the logs'], ['End', 'Newest lines'], ['Esc', 'Back'], ['t', 'Colours']];

function help() {
	const dialog = $('dialog');
	dialog.replaceChildren(h('form', { method: 'dialog' }, h('h2', {}, 'Keyboard'), h('dl', {}, ...KEYS.flatMap(([keys, what]) => [h('dt', {}, ...keys.split(' ').map((key) => (key === '/' && keys !== '/' ? ' or ' : h('kbd', {}, key)))), h('dd', {}, what)])), div('row', h('button', { cls: 'main' }, 'Close'))));
	dialog.onclose = null;
	dialog.showModal();
}

let chord = -Infinity; // when its g was typed

function pickRow(step) {
	const rows = [...document.querySelectorAll('main tbody tr')].filter((row) => row.offsetParent);
	if (!rows.length) return;
	const now = rows.findIndex((row) => row.classList.contains('picked'));
	rows[now]?.classList.remove('picked');
	const row = rows[Math.max(0, Math.min(rows.length - 1, now < 0 ? 0 : now + step))];
	row.classList.add('picked');
	row.scrollIntoView({ block: 'nearest' });
	(row.querySelector('a') || row.querySelector('button'))?.focus();
}

function press(word) {
	const scope = document.querySelector('tr.picked') || document.querySelector('.head');
	[...(scope?.querySelectorAll('button') || [])].find((each) => each.getAttribute('aria-label').startsWith(word))?.click();
}

on(document, 'keydown', (event) => {
	if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, dialog')) return;
	const key = event.key;
	if (event.timeStamp - chord < 1500) {
		chord = -Infinity;
		const to = { o: '#/', l: '#/logs', g: '#/graph', p: '#/pipelines' }[key];
		if (to) { location.hash = to; event.preventDefault(); return; }
	}
	if (key === 'g') chord = event.timeStamp;
	else if (key === '?') help();
	else if (key === '/') { view?.logs?.search.focus(); if (!view?.logs) location.hash = '#/logs'; event.preventDefault(); }
	else if (key === 'j') pickRow(1); else if (key === 'k') pickRow(-1);
	else if (key === 'p') view?.logs?.pause();
	else if (key === 'End' && view?.logs) view.logs.toEnd();
	else if (key === 'r') press('Restart');
	else if (key === 's') { press('Stop'); press('Start'); }
	else if (key === 't') theme();
	else if (key === 'Escape' && location.hash !== '#/') location.hash = '#/';
});

on(document, 'click', (event) => { for (const open of document.querySelectorAll('details.pick[open]')) if (!open.contains(event.target)) open.open = false; });

function theme(next = { auto: 'light', light: 'dark', dark: 'auto' }[root.theme || 'auto']) {
	if (next === 'auto') delete root.theme; else root.theme = next;
	try { localStorage.setItem('trio-process-theme', next); } catch { /* not kept */ }
	$('theme').replaceChildren(glyph({ auto: 'auto', light: 'sun', dark: 'moon' }[next]));
	$('theme').ariaLabel = $('theme').title = `Colours: ${next === 'auto' ? 'as the system' : next}`;
}

async function start() {
	const token = /^#token=(.+)$/.exec(location.hash);
	if (token) {
		history.replaceState(null, '', location.pathname);
		try { await api('/session', 'POST', { token: decodeURIComponent(token[1]) }); } catch (error) { login(error.message); return; }
	}
	try { await api('/pipelines'); } catch (error) { if (error.status === 401) return; }
	S.live = 'connecting';
	let first = true;
	stream?.close();
	stream = new Stream(`channels=${STATES}`, (message) => {
		takeState(message);
		if (first && message.type === 'snapshot') { first = false; route(); }
	});
	chrome();
}

let stored = 'auto';
try { stored = localStorage.getItem('trio-process-theme') || 'auto'; } catch { }
theme(['light', 'dark'].includes(stored) ? stored : 'auto');
on($('theme'), 'click', () => theme());
on($('help'), 'click', help);
on($('skip'), 'click', (event) => { event.preventDefault(); $('main').focus(); });  // its own address is no view
on(window, 'hashchange', () => { if (/^#token=/.test(location.hash)) start(); else if (view) route(); });
on(document, 'visibilitychange', () => { if (!document.hidden) { redraw(); view?.logs?.draw(); } });
setInterval(() => { if (!document.hidden && S.live === 'live') redraw(); }, 1000);
start();
