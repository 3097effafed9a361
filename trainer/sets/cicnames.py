"""The columns of CICFlowMeter in its three namings, with units.

2017: CICIDS2017 as published. 2018: CSE-CIC-IDS2018, and with underscores IoTID20. corrected: the
repaired tool of Engelen and others (2021). Where a naming has the name of one on its left, it is
not written again.
"""

from __future__ import annotations

from trainer.sets.mapping import Feature, Form

_TABLE = """
flow_duration    us      | Flow Duration
fwd_packets      packets | Total Fwd Packets | Tot Fwd Pkts | Total Fwd Packet
bwd_packets      packets | Total Backward Packets | Tot Bwd Pkts | Total Bwd packets
fwd_bytes       bytes   | Total Length of Fwd Packets | TotLen Fwd Pkts | Total Length of Fwd Packet
bwd_bytes       bytes   | Total Length of Bwd Packets | TotLen Bwd Pkts | Total Length of Bwd Packet
fwd_size_max     bytes   | Fwd Packet Length Max | Fwd Pkt Len Max
fwd_size_min     bytes   | Fwd Packet Length Min | Fwd Pkt Len Min
fwd_size_mean    bytes   | Fwd Packet Length Mean | Fwd Pkt Len Mean
fwd_size_std     bytes   | Fwd Packet Length Std | Fwd Pkt Len Std
bwd_size_max     bytes   | Bwd Packet Length Max | Bwd Pkt Len Max
bwd_size_min     bytes   | Bwd Packet Length Min | Bwd Pkt Len Min
bwd_size_mean    bytes   | Bwd Packet Length Mean | Bwd Pkt Len Mean
bwd_size_std     bytes   | Bwd Packet Length Std | Bwd Pkt Len Std
byte_rate        bytes/s | Flow Bytes/s | Flow Byts/s
packet_rate      packets/s | Flow Packets/s | Flow Pkts/s
gap_mean         us      | Flow IAT Mean
gap_std          us      | Flow IAT Std
gap_max          us      | Flow IAT Max
gap_min          us      | Flow IAT Min
fwd_gap_total    us      | Fwd IAT Total | Fwd IAT Tot
fwd_gap_mean     us      | Fwd IAT Mean
fwd_gap_std      us      | Fwd IAT Std
fwd_gap_max      us      | Fwd IAT Max
fwd_gap_min      us      | Fwd IAT Min
bwd_gap_total    us      | Bwd IAT Total | Bwd IAT Tot
bwd_gap_mean     us      | Bwd IAT Mean
bwd_gap_std      us      | Bwd IAT Std
bwd_gap_max      us      | Bwd IAT Max
bwd_gap_min      us      | Bwd IAT Min
fwd_psh          count   | Fwd PSH Flags
bwd_psh          count   | Bwd PSH Flags
fwd_urg          count   | Fwd URG Flags
bwd_urg          count   | Bwd URG Flags
fwd_header       bytes   | Fwd Header Length | Fwd Header Len
bwd_header       bytes   | Bwd Header Length | Bwd Header Len
fwd_packet_rate  packets/s | Fwd Packets/s | Fwd Pkts/s
bwd_packet_rate  packets/s | Bwd Packets/s | Bwd Pkts/s
size_min         bytes   | Min Packet Length | Pkt Len Min | Packet Length Min
size_max         bytes   | Max Packet Length | Pkt Len Max | Packet Length Max
size_mean        bytes   | Packet Length Mean | Pkt Len Mean
size_std         bytes   | Packet Length Std | Pkt Len Std
size_variance    bytes^2 | Packet Length Variance | Pkt Len Var
fin              count   | FIN Flag Count | FIN Flag Cnt
syn              count   | SYN Flag Count | SYN Flag Cnt
rst              count   | RST Flag Count | RST Flag Cnt
psh              count   | PSH Flag Count | PSH Flag Cnt
ack              count   | ACK Flag Count | ACK Flag Cnt
urg              count   | URG Flag Count | URG Flag Cnt
cwr              count   | CWE Flag Count | CWR Flag Count
ece              count   | ECE Flag Count | ECE Flag Cnt
down_up          ratio   | Down/Up Ratio
size_average     bytes   | Average Packet Size | Pkt Size Avg
fwd_segment      bytes   | Avg Fwd Segment Size | Fwd Seg Size Avg | Fwd Segment Size Avg
bwd_segment      bytes   | Avg Bwd Segment Size | Bwd Seg Size Avg | Bwd Segment Size Avg
fwd_bulk_bytes   bytes   | Fwd Avg Bytes/Bulk | Fwd Byts/b Avg | Fwd Bytes/Bulk Avg
fwd_bulk_packets packets | Fwd Avg Packets/Bulk | Fwd Pkts/b Avg | Fwd Packet/Bulk Avg
fwd_bulk_rate    bytes/s | Fwd Avg Bulk Rate | Fwd Blk Rate Avg | Fwd Bulk Rate Avg
bwd_bulk_bytes   bytes   | Bwd Avg Bytes/Bulk | Bwd Byts/b Avg | Bwd Bytes/Bulk Avg
bwd_bulk_packets packets | Bwd Avg Packets/Bulk | Bwd Pkts/b Avg | Bwd Packet/Bulk Avg
bwd_bulk_rate    bytes/s | Bwd Avg Bulk Rate | Bwd Blk Rate Avg | Bwd Bulk Rate Avg
sub_fwd_packets  packets | Subflow Fwd Packets | Subflow Fwd Pkts
sub_fwd_bytes    bytes   | Subflow Fwd Bytes | Subflow Fwd Byts
sub_bwd_packets  packets | Subflow Bwd Packets | Subflow Bwd Pkts
sub_bwd_bytes    bytes   | Subflow Bwd Bytes | Subflow Bwd Byts
fwd_window       bytes   | Init_Win_bytes_forward | Init Fwd Win Byts | FWD Init Win Bytes
bwd_window       bytes   | Init_Win_bytes_backward | Init Bwd Win Byts | Bwd Init Win Bytes
fwd_data_packets packets | act_data_pkt_fwd | Fwd Act Data Pkts
fwd_segment_min  bytes   | min_seg_size_forward | Fwd Seg Size Min
active_mean      us      | Active Mean
active_std       us      | Active Std
active_max       us      | Active Max
active_min       us      | Active Min
idle_mean        us      | Idle Mean
idle_std         us      | Idle Std
idle_max         us      | Idle Max
idle_min         us      | Idle Min
"""


def _feature(line: str) -> Feature:
    words, *names = (part.strip() for part in line.split("|"))
    name, unit = words.split()
    form: Form = "raw" if unit == "ratio" else "log"
    return Feature(name, tuple(names), unit, form)


FEATURES = tuple(_feature(line) for line in _TABLE.strip().splitlines())
"""76 amounts of a flow, all that the three namings share."""

DROPPED = {
    "id": "a row's number",
    "Unnamed: 0": "a row's number",
    "Flow ID": "addresses and ports in one text",
    "Src IP": "an address: a model would learn the network",
    "Source IP": "an address: a model would learn the network",
    "Dst IP": "an address: a model would learn the network",
    "Destination IP": "an address: a model would learn the network",
    "Src Port": "chosen by chance, or by the attack's tool",
    "Source Port": "chosen by chance, or by the attack's tool",
    "Dst Port": "each attack of the set has its own one: it tells the label",
    "Destination Port": "each attack of the set has its own one: it tells the label",
    "Protocol": "not in every naming",
    "Timestamp": "attacks have their hours: it tells the label; it orders the rows",
    "Fwd Header Length.1": "the same column twice in CICIDS2017",
    "Fwd RST Flags": "in the corrected naming alone",
    "Bwd RST Flags": "in the corrected naming alone",
    "ICMP Code": "in the corrected naming alone",
    "ICMP Type": "in the corrected naming alone",
    "Total TCP Flow Time": "in the corrected naming alone",
    "Attempted Category": "part of the label",
}
