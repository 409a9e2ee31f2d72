// Which replica gets a request: looked up in the routing table that all workers of NGINX share.
//
// The table has one entry per key, so that a request reads one generation of it:
// {"r": [["127.0.0.1:21034", "orders.1#7"], ...], "w": "orders is starting", "s": 1700000000}
// Runs on the smallest njs engine: no for-of, no destructuring, nothing kept between requests.

import fs from 'fs';

const NONE = 'none';
const MOST_ATTEMPTS = 3;
const GENERATION = '=generation';

function entry(key) {
    const raw = ngx.shared.ds_table.get(key);
    return raw === undefined ? {r: []} : JSON.parse(raw);
}

function turn(key, count) {
    return count === 1 ? 0 : ngx.shared.ds_turns.incr(key, 1, 0) % count;
}

// "address replica" of the replica whose turn it is, or "none".
function choose(r) {
    const key = r.variables.ds_key;
    if (!key) {
        return NONE;
    }
    const ready = entry(key).r;
    return ready.length ? ready[turn(key, ready.length)].join(' ') : NONE;
}

// The same for a request that other replicas did not answer: another one, or, where there is no
// other, the same on a fresh connection. "address replica last|more", last meaning that a failure is final.
function chooseAgain(r) {
    const tried = hops(r);
    const key = tried.shift();
    const ready = entry(key).r;
    if (!ready.length) {
        return NONE;
    }
    const others = ready.filter((target) => !tried.includes(target[0]));
    if (!others.length) {
        const last = tried[tried.length - 1];
        const same = ready.filter((target) => target[0] === last);
        return (same.length ? same[0] : ready[0]).join(' ') + ' last';
    }
    const target = others[turn(key, others.length)];
    return target.join(' ') + (tried.length + 2 > MOST_ATTEMPTS ? ' last' : ' more');
}

function hops(r) {
    return (r.headersIn['X-Devstack-Hops'] || '').split(' ');
}

function keyAgain(r) {
    return hops(r)[0];
}

// The path and query without the prefix of the route, as raw as they came.
function stripped(r) {
    const prefix = r.variables.ds_prefix;
    let raw = r.variables.request_uri;
    if (!raw.startsWith(prefix) || !(raw.length === prefix.length || '/?'.includes(raw[prefix.length]))) {
        // Written otherwise (escaped letters, doubled slashes): the normalised form has the prefix.
        raw = encodeURI(r.variables.uri).replace(/\?/g, '%3F').replace(/#/g, '%23')
            + (r.variables.args ? '?' + r.variables.args : '');
    }
    const rest = raw.slice(prefix.length);
    return rest.startsWith('/') ? rest : '/' + rest;
}

// 503: what a key without a ready replica waits for.
function waiting(r) {
    const key = r.variables.ds_key;
    const found = entry(key);
    let text = found.w || key + ' has no replica that is ready';
    if (found.s) {
        text += ' (' + Math.max(0, Math.floor(Date.now() / 1000 - found.s)) + ' s)';
    }
    answer(r, 503, key, text);
}

// A replica was there and did not answer: 503 if no request reached it, else 502.
function unanswered(r) {
    const key = r.variables.ds_key;
    const connected = /[0-9]/.test(r.variables.upstream_connect_time || '');
    if (connected) {
        answer(r, 502, key, key + ' ended the connection without an answer');
    } else {
        answer(r, 503, key, key + ' accepts no connection');
    }
}

function late(r) {
    const key = r.variables.ds_key;
    answer(r, 504, key, key + ' did not answer in time');
}

function answer(r, status, key, text) {
    const accept = r.headersIn['Accept'] || '';
    let type = 'text/plain', body = text + '\n';
    if (accept.includes('text/html')) {
        const safe = text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
        const refresh = status === 503 ? '<meta http-equiv="refresh" content="1">' : '';
        type = 'text/html';
        body = '<!doctype html><html lang="en"><head><meta charset="utf-8">' + refresh
            + '<title>' + safe + '</title><style>body{font:1.2em system-ui,sans-serif;margin:4em;'
            + 'color-scheme:light dark}</style></head><body><p>' + safe + '</p></body></html>\n';
    } else if (accept.includes('json')) {
        type = 'application/json';
        body = JSON.stringify({error: text, service: key, status: status}) + '\n';
    }
    r.headersOut['Content-Type'] = type + '; charset=utf-8';
    r.headersOut['Cache-Control'] = 'no-store';
    if (status === 503) {
        r.headersOut['Retry-After'] = '1';
    }
    r.return(status, body);
}

// The admin socket. PUT {"generation": "...", "table": {key: entry}} replaces the whole table;
// GET answers with it. A table that does not fit changes nothing.
function admin(r) {
    const table = ngx.shared.ds_table;
    if (r.method === 'GET') {
        const now = {generation: table.get(GENERATION) || '', table: {}};
        table.items().forEach((item) => {
            if (item[0] !== GENERATION) {
                now.table[item[0]] = JSON.parse(item[1]);
            }
        });
        r.return(200, JSON.stringify(now));
        return;
    }
    const wanted = JSON.parse(r.requestText);
    const before = {};
    try {
        Object.keys(wanted.table).forEach((key) => {
            const value = JSON.stringify(wanted.table[key]);
            const old = table.get(key);
            if (old !== value) {
                before[key] = old;
                table.set(key, value);
            }
        });
    } catch (e) {
        Object.keys(before).forEach((key) => table.delete(key));
        Object.keys(before).forEach((key) => before[key] !== undefined && table.set(key, before[key]));
        r.return(507, String(e));
        return;
    }
    table.keys().forEach((key) => {
        if (key !== GENERATION && wanted.table[key] === undefined) {
            table.delete(key);
        }
    });
    table.set(GENERATION, wanted.generation);
    r.return(200, JSON.stringify({generation: wanted.generation}));
}

// TCP services: stream workers do not share the dictionary; the same entries are in a small file.
function chooseTcp(s) {
    const found = JSON.parse(fs.readFileSync('tcp.json', 'utf8'))[s.variables.ds_key];
    const ready = found ? found.r : [];
    if (!ready.length) {
        return 'unix:tcp-none.sock';
    }
    const key = s.variables.ds_key;
    return ready[ready.length === 1 ? 0 : ngx.shared.ds_tcp_turns.incr(key, 1, 0) % ready.length][0];
}

export default {choose, chooseAgain, keyAgain, stripped, waiting, unanswered, late, admin, chooseTcp};
