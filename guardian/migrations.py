"""The tables as SQL, one script for each version; the comments are the documentation, too."""

from __future__ import annotations

COMMANDS = """
CREATE TABLE commands (          -- what the user told us, waiting or done
  id TEXT PRIMARY KEY,           -- random, made by the one who asks
  created INTEGER NOT NULL,      -- ns
  author TEXT NOT NULL,          -- name of the person's account, as it says
  kind TEXT NOT NULL,            -- allow, snooze, feedback, name, undo, link, forget, ...
  args TEXT NOT NULL,            -- JSON object, see docs/database.md
  done INTEGER,                  -- ns, when the daemon took it; empty while it waits
  result TEXT                    -- `ok`, `undone`, or why it was refused
);
"""

MIGRATIONS: tuple[str, ...] = (
    """
CREATE TABLE meta (              -- facts about this database
  key TEXT PRIMARY KEY,         -- installation, ended, last_commit, privacy_level, ...
  value TEXT NOT NULL            -- text
) WITHOUT ROWID;

CREATE TABLE devices (           -- who was seen at home
  key TEXT PRIMARY KEY,          -- MAC, or `ip:` and an address where no MAC is seen
  mac TEXT NOT NULL,             -- aa:bb:cc:dd:ee:ff or empty
  user_name TEXT,                -- the name that the user gave
  learned TEXT NOT NULL,         -- the name learned from DHCP or mDNS, may be empty
  addresses TEXT NOT NULL,       -- JSON list of texts, the one used last at the end
  gateway INTEGER NOT NULL,      -- 1: the router itself, not judged
  first_seen INTEGER NOT NULL,   -- ns
  last_seen INTEGER NOT NULL     -- ns, written every five minutes
) WITHOUT ROWID;

CREATE TABLE connections (       -- finished connections, the columns of Zeek's conn.log
  id INTEGER PRIMARY KEY,        -- order of writing
  uid TEXT NOT NULL,             -- Zeek's uid
  ts INTEGER NOT NULL,           -- ns, first packet
  device TEXT NOT NULL,          -- key of the home device judged, empty when unknown
  orig_h TEXT NOT NULL,          -- originator
  orig_p INTEGER NOT NULL,       -- its port
  resp_h TEXT NOT NULL,          -- responder
  resp_p INTEGER NOT NULL,       -- its port
  proto INTEGER NOT NULL,        -- IP protocol number
  service TEXT NOT NULL,         -- Zeek's service, empty when unknown
  host TEXT NOT NULL,            -- TLS server name, HTTP host or DNS query
  conn_state TEXT NOT NULL,      -- Zeek's
  history TEXT NOT NULL,         -- Zeek's
  local_orig INTEGER NOT NULL,   -- 1: the originator is at home
  local_resp INTEGER NOT NULL,   -- 1: the responder is at home
  duration REAL NOT NULL,        -- seconds
  orig_bytes INTEGER,            -- payload bytes, empty where Zeek leaves it unset
  resp_bytes INTEGER,            -- payload bytes, empty where Zeek leaves it unset
  missed_bytes INTEGER NOT NULL, -- Zeek's
  orig_pkts INTEGER NOT NULL,    -- packets of the originator
  orig_ip_bytes INTEGER NOT NULL, -- their IP bytes
  resp_pkts INTEGER NOT NULL,    -- packets of the responder
  resp_ip_bytes INTEGER NOT NULL, -- their IP bytes
  anomaly REAL,                  -- of the highest slice; 1.0 is the line; empty: not judged
  threat REAL,                   -- of the highest slice, 0 to 1; empty: not judged
  label TEXT NOT NULL,           -- class of the highest slice; empty: not judged
  verdict TEXT NOT NULL,         -- benign, anomaly or attack; empty: not judged
  count INTEGER NOT NULL         -- above 1: a flood's connections alike, amounts summed
);
CREATE INDEX connections_ts ON connections(ts);

CREATE TABLE scores (            -- highest slice so far of living connections, if not benign
  uid TEXT PRIMARY KEY,          -- Zeek's uid; the row goes when the connection's record comes
  ts INTEGER NOT NULL,           -- ns, when last scored
  device TEXT NOT NULL,          -- key
  anomaly REAL NOT NULL,         -- 1.0 is the line
  threat REAL NOT NULL,          -- 0 to 1
  label TEXT NOT NULL,           -- class
  verdict TEXT NOT NULL          -- benign, anomaly or attack
) WITHOUT ROWID;

CREATE TABLE incidents (         -- what a person was told about
  id TEXT PRIMARY KEY,           -- as shown to the user
  device TEXT NOT NULL,          -- key
  mac TEXT NOT NULL,             -- of the device, as known then
  ip TEXT NOT NULL,              -- of the device, as known then
  name TEXT NOT NULL,            -- of the device, as known then
  opened INTEGER NOT NULL,       -- ns
  updated INTEGER NOT NULL,      -- ns
  closed INTEGER,                -- ns, empty while open
  severity TEXT NOT NULL,        -- low, medium or high
  cause TEXT NOT NULL,           -- a class, or `unusual`
  label TEXT NOT NULL,           -- class the classifier names most
  speaker TEXT NOT NULL,         -- model or counter
  score REAL NOT NULL,           -- highest threat, or anomaly for `unusual`
  explanation TEXT NOT NULL,     -- for a person
  advice TEXT NOT NULL,          -- what to do next
  evidence TEXT NOT NULL,        -- JSON: features, peers, connections
  count INTEGER NOT NULL,        -- slices that carried evidence
  bundle TEXT NOT NULL,          -- digest of the models that judged
  feedback TEXT                  -- this-was-me, fine or bad
) WITHOUT ROWID;
CREATE INDEX incidents_updated ON incidents(updated);

CREATE TABLE incident_events (   -- openings, escalations, closings
  id INTEGER PRIMARY KEY,        -- order of events
  incident TEXT NOT NULL REFERENCES incidents(id) ON DELETE CASCADE, -- its id
  at INTEGER NOT NULL,           -- ns
  change TEXT NOT NULL,          -- opened, held (not told), escalated or closed
  severity TEXT NOT NULL,        -- from then on
  score REAL NOT NULL            -- then
);
CREATE INDEX incident_events_incident ON incident_events(incident);

CREATE TABLE bundles (           -- model bundles that were loaded
  digest TEXT PRIMARY KEY,       -- of the manifest
  name TEXT NOT NULL,            -- as the manifest says
  first_used INTEGER NOT NULL,   -- ns
  last_used INTEGER NOT NULL,    -- ns
  manifest TEXT NOT NULL         -- JSON
) WITHOUT ROWID;

CREATE TABLE outbox (            -- messages for the broker, in order
  seq INTEGER PRIMARY KEY AUTOINCREMENT, -- order of sending
  created INTEGER NOT NULL,      -- ns
  kind TEXT NOT NULL,            -- incident, event or state
  topic TEXT NOT NULL,           -- MQTT topic
  payload TEXT NOT NULL,         -- JSON or plain text
  qos INTEGER NOT NULL,          -- 0 or 1
  retain INTEGER NOT NULL,       -- 1: the broker keeps it
  tries INTEGER NOT NULL DEFAULT 0, -- how often it was handed to a broker
  sent INTEGER                   -- ns, when the broker took it; empty while it waits
);
CREATE INDEX outbox_waiting ON outbox(seq) WHERE sent IS NULL;
"""
    + COMMANDS
    + "CREATE INDEX commands_waiting ON commands(created) WHERE done IS NULL;\n",
    """
-- A capture replayed twice stands there once; a database of before may hold it twice.
DELETE FROM connections WHERE id NOT IN (SELECT max(id) FROM connections GROUP BY ts, uid);
DROP INDEX connections_ts;
CREATE UNIQUE INDEX connections_once ON connections(ts, uid);
DELETE FROM incident_events
WHERE id NOT IN (SELECT min(id) FROM incident_events GROUP BY incident, at, change);
DROP INDEX incident_events_incident;
CREATE UNIQUE INDEX incident_events_once ON incident_events(incident, at, change);

CREATE TABLE kin (               -- how devices show themselves, to know them again
  key TEXT PRIMARY KEY,          -- of the device
  fingerprint TEXT NOT NULL,     -- digest of the options its DHCP client asks for and its class
  names TEXT NOT NULL,           -- JSON list: what it called itself; empty above privacy level 0
  same_as TEXT,                  -- key of the earlier device that it seems to be, or is
  state TEXT NOT NULL,           -- empty: no question; asked, linked or refused
  reason TEXT NOT NULL,          -- why it seems to be the same
  at INTEGER NOT NULL            -- ns, of the question or the answer
) WITHOUT ROWID;

CREATE TABLE totals (            -- connections counted, in place of their rows at privacy level 3
  hour INTEGER NOT NULL,         -- ns, the full hour in which they ended
  device TEXT NOT NULL,          -- key, empty when unknown
  verdict TEXT NOT NULL,         -- benign, anomaly or attack; empty: not judged
  connections INTEGER NOT NULL,  -- how many
  orig_bytes INTEGER NOT NULL,   -- payload bytes of their originators
  resp_bytes INTEGER NOT NULL,   -- payload bytes of their responders
  orig_pkts INTEGER NOT NULL,    -- packets of their originators
  resp_pkts INTEGER NOT NULL,    -- packets of their responders
  PRIMARY KEY (hour, device, verdict)
) WITHOUT ROWID;
""",
    """
CREATE TABLE pasts (             -- what devices were like, so that a restart need not learn it anew
  device TEXT PRIMARY KEY,       -- key
  at INTEGER NOT NULL,           -- ns, when written
  past BLOB NOT NULL             -- packed JSON: levels in calm hours, peers known, usual features
) WITHOUT ROWID;

CREATE TABLE changes (           -- devices that changed their habits, each told once
  device TEXT NOT NULL,          -- key
  at INTEGER NOT NULL,           -- ns, the end of the week in which it did
  features TEXT NOT NULL,        -- JSON list: name, text, more (or less), psi; the largest first
  PRIMARY KEY (device, at)
) WITHOUT ROWID;
""",
)
"""One script per version; never edit one that was released, add the next."""
