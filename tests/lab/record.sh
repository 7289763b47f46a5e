#!/usr/bin/env bash
# Records captures/lab.pcap: real programs, a real firewall, a known truth.
#
#   sudo tests/lab/record.sh [OUT_DIR]        (default: captures/; about 30 s; needs root for network namespaces)
#
# Three namespaces, connected by veth pairs and by nothing else:
#
#   appliance 10.10.1.4  ---  router (nftables)  ---  outside: resolver, servers, browser, backup server, console
#        ^ tcpdump listens here
#
# No packet leaves the namespaces: none of them has a link to this machine's network. Addresses are those of the
# documentation ranges (RFC 5737), of the demo's site (10.x) and Azure's two platform addresses; the names are those of
# the vendor's page, answered by the lab's own resolver.
#
# Writes OUT_DIR/lab.pcap and OUT_DIR/lab-truth.csv: one row an attempt (who tried what, what the firewall and the server
# did, the outcome that a reader of the packets should find, how the program ended). `page` names the rules it falls
# under (mail: if the site lists the server). Every attempt has its own client port, so a row finds its flow. Nothing is
# written unless every program ended as planned and every firewall rule counted packets.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/../../captures}
[ "$(id -u)" = 0 ] || { echo "record.sh: needs root (network namespaces); nothing was done" >&2; exit 2; }
for program in ip nft tcpdump dnsmasq openssl curl python3; do
    command -v "$program" >/dev/null || { echo "record.sh: $program is missing; ./dev lab installs it" >&2; exit 2; }
done
mkdir -p "$out"
out=$(cd "$out" && pwd)

appliance=pplab-appliance router=pplab-router outside=pplab-outside
work=$(mktemp -d)
pids=()

clean_up() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    for ns in "$appliance" "$router" "$outside"; do
        ip netns delete "$ns" 2>/dev/null || true
        rm -rf "/etc/netns/$ns"
    done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# ---- the network ----------------------------------------------------------------------------------------------------

R() { ip netns exec "$router" "$@"; }

for ns in "$appliance" "$router" "$outside"; do
    ip netns add "$ns"
    ip netns exec "$ns" ip link set lo up
done
mkdir -p "/etc/netns/$appliance" "/etc/netns/$outside"
echo "nameserver 168.63.129.16" | tee "/etc/netns/$appliance/resolv.conf" >"/etc/netns/$outside/resolv.conf"
if [ -e /etc/nsswitch.conf ]; then
    echo "hosts: files dns" | tee "/etc/netns/$appliance/nsswitch.conf" >"/etc/netns/$outside/nsswitch.conf"
fi

# Fixed MAC addresses (locally administered): nothing of the recording machine gets into the capture.
link() { # ns-a if-a mac-a ns-b if-b mac-b
    ip link add "$2" netns "$1" address "$3" type veth peer name "$5" netns "$4" address "$6"
    ip -n "$1" link set "$2" up
    ip -n "$4" link set "$5" up
}
link "$appliance" eth0 02:00:00:00:01:04 "$router" inner 02:00:00:00:01:01
link "$router" outer 02:00:00:00:02:01 "$outside" eth0 02:00:00:00:02:02

ip -n "$appliance" address add 10.10.1.4/24 dev eth0
ip -n "$router" address add 10.10.1.1/24 dev inner
ip -n "$appliance" route add default via 10.10.1.1
ip -n "$router" address add 192.0.2.1/30 dev outer
ip -n "$outside" address add 192.0.2.2/30 dev eth0
ip -n "$outside" route add default via 192.0.2.1
ip -n "$router" route add default via 192.0.2.2
R sysctl -q net.ipv4.ip_forward=1

# The firewall answers from the appliance's side of the router, as one in the path does.
wire=168.63.129.16 imds=169.254.169.254
browser=10.40.0.9 backup_server=10.20.0.10 console=10.20.0.30 mail=10.20.0.25
ubuntu=203.0.113.10 postgresql=203.0.113.20 pgdg=203.0.113.21 microsoft=203.0.113.30 nginx=203.0.113.40
veeam=198.51.100.10 butler=198.51.100.11 ratecard=198.51.100.20 evil=198.51.100.66 ntp=203.0.113.123
for address in $wire $imds $browser $backup_server $console $mail $ubuntu $postgresql $pgdg $microsoft $nginx \
    $veeam $butler $ratecard $evil $ntp; do
    ip -n "$outside" address add "$address/32" dev lo
done

R nft -f - <<NFT
table ip lab {
    set blocked_later { type ipv4_addr; }
    chain forward {
        type filter hook forward priority 0; policy accept;
        ip daddr $microsoft  tcp dport 443  counter drop                                   comment "drop"
        ip daddr $postgresql tcp dport 443  counter reject with tcp reset                   comment "reset"
        ip daddr $ratecard   tcp dport 443  counter reject with icmp type admin-prohibited  comment "prohibited"
        ip daddr $butler     tcp dport 443  ip length > 100 counter reject with tcp reset   comment "cut"
        ip daddr @blocked_later tcp dport 443 counter reject with tcp reset                 comment "later"
        ip daddr $evil       tcp dport 8443 counter drop                                    comment "drop-evil"
        ip daddr $ntp        udp dport 123  counter drop                                    comment "drop-ntp"
    }
}
NFT

# ---- the servers ----------------------------------------------------------------------------------------------------

serve() { "$@" >>"$work/servers.log" 2>&1 & pids+=($!); }

serve ip netns exec "$outside" dnsmasq --keep-in-foreground --no-daemon --conf-file=/dev/null --user=root --pid-file= \
    --listen-address="$wire" --bind-interfaces --no-resolv --no-hosts --local-ttl=60 --cache-size=0 \
    --local=/com/ --local=/org/ --local=/net/ --local=/example/ \
    --cname=security.ubuntu.com,ubuntu-mirrors.fastly.example --host-record="ubuntu-mirrors.fastly.example,$ubuntu" \
    --cname=repository.veeam.com,d1veeam.cloudfront.example --host-record="d1veeam.cloudfront.example,$veeam" \
    --cname=vbr.butler.veeam.com,butler-prod.trafficmanager.example \
    --cname=butler-prod.trafficmanager.example,butler-weu.cloudapp.example \
    --host-record="butler-weu.cloudapp.example,$butler" \
    --cname=packages.microsoft.com,packages-msft.azurefd.example --host-record="packages-msft.azurefd.example,$microsoft" \
    --cname=apim-ratecard-v1.azure-api.net,ratecard-weu.cloudapp.example \
    --host-record="ratecard-weu.cloudapp.example,$ratecard" \
    --host-record="postgresql.org,$postgresql" --host-record="apt.postgresql.org,$pgdg" --host-record="nginx.org,$nginx" \
    --host-record="evil.example,$evil" --host-record="ntp.ubuntu.com,$ntp" --host-record="mail.contoso.example,$mail" \
    --host-record="appliance.contoso.example,10.10.1.4"

names=$(printf 'DNS:%s,' nginx.org repository.veeam.com vbr.butler.veeam.com apt.postgresql.org evil.example \
    appliance.contoso.example)
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj "/CN=portproof lab" \
    -addext "subjectAltName=${names%,}" -keyout "$work/key.pem" -out "$work/cert.pem" 2>>"$work/servers.log"
tls_server() { # namespace address more...
    local ns=$1 address=$2
    shift 2
    serve ip netns exec "$ns" openssl s_server -quiet -accept "$address:443" -cert "$work/cert.pem" -key "$work/key.pem" -www "$@"
}
tls_server "$outside" $nginx
tls_server "$outside" $veeam
tls_server "$outside" $butler
tls_server "$outside" $pgdg -tls1_3 # refuses the appliance's TLS 1.2 with a fatal alert
tls_server "$outside" $evil
tls_server "$appliance" 10.10.1.4

mkdir "$work/www"
echo "ok" >"$work/www/InRelease"
for address in $ubuntu $wire $imds; do
    serve ip netns exec "$outside" python3 -m http.server --directory "$work/www" --bind "$address" 80
done
serve ip netns exec "$outside" python3 "$here/smtp.py" $mail 25

listening() { ip netns exec "$1" ss -Hltn "sport = :$2" | grep -qF "$3:$2"; }
for _ in $(seq 50); do
    if listening "$outside" 443 $nginx && listening "$outside" 443 $veeam && listening "$outside" 443 $butler &&
        listening "$outside" 443 $pgdg && listening "$outside" 443 $evil && listening "$appliance" 443 10.10.1.4 &&
        listening "$outside" 80 $ubuntu && listening "$outside" 80 $wire && listening "$outside" 80 $imds &&
        listening "$outside" 25 $mail && listening "$outside" 53 $wire; then up=1; break; fi
    sleep 0.2
done
[ "${up:-}" = 1 ] || { echo "record.sh: a server did not start:" >&2; tail -n 20 "$work/servers.log" >&2; exit 1; }

# ---- the recording --------------------------------------------------------------------------------------------------

ip netns exec "$appliance" tcpdump -i eth0 -n -s 0 -U --immediate-mode -Z root -w "$work/lab.pcap" 2>"$work/tcpdump.log" &
recorder=$!
pids+=("$recorder")
for _ in $(seq 50); do grep -q "listening on" "$work/tcpdump.log" && break; sleep 0.1; done
grep -q "listening on" "$work/tcpdump.log" || { cat "$work/tcpdump.log" >&2; exit 1; }

# Planned rows; `exit` is what the program must return. attempt() adds what it did return.
# columns: attempt, client ip, client port, server ip, server port, proto, name, page, firewall, server, outcome
header="attempt,initiator_ip,initiator_port,responder_ip,responder_port,proto,name,page,firewall,server,outcome,program,exit"
failed=0
attempt() { # row exit command...
    local row=$1 planned=$2 got=0
    shift 2
    "$@" >>"$work/clients.log" 2>&1 || got=$?
    local program=$3 # after `ip netns exec`
    [ "$1" = ip ] && program=$5
    echo "$row,$program,$got" >"$work/row.${row%%,*}"
    if [ "$got" != "$planned" ]; then
        echo "record.sh: attempt ${row%%,*} ended with $got, planned was $planned" >&2
        echo failed >>"$work/failed"
    fi
}
web() { echo ip netns exec "$1" curl -sS --http1.1 --cacert "$work/cert.pem" --connect-timeout "${4:-12}" --max-time 15 --local-port "$2" "$3"; }
me=10.10.1.4

# shellcheck disable=SC2046  # web() prints a command of plain words
{
    # Dropped attempts first and in the background: their retransmissions need time, and the capture must go on.
    attempt "dropped,$me,40001,$microsoft,443,tcp,packages.microsoft.com,vbaz-08,drop,never reached,filtered" 28 \
        $(web "$appliance" 40001 https://packages.microsoft.com/ 12) &
    background=("$!")
    sleep 1
    attempt "http-works,$me,40002,$ubuntu,80,tcp,security.ubuntu.com,vbaz-05a,accept,answers,established" 0 \
        $(web "$appliance" 40002 http://security.ubuntu.com/InRelease)
    sleep 0.5
    attempt "tls-works,$me,40003,$veeam,443,tcp,repository.veeam.com,vbaz-04,accept,answers,established" 0 \
        $(web "$appliance" 40003 https://repository.veeam.com/)
    sleep 0.5
    attempt "works-at-first,$me,40004,$nginx,443,tcp,nginx.org,vbaz-15,accept,answers,established" 0 \
        $(web "$appliance" 40004 https://nginx.org/)
    sleep 0.5
    attempt "reset,$me,40005,$postgresql,443,tcp,postgresql.org,vbaz-07,reject with tcp reset,never reached,refused" 7 \
        $(web "$appliance" 40005 https://postgresql.org/)
    sleep 0.5
    attempt "prohibited,$me,40006,$ratecard,443,tcp,apim-ratecard-v1.azure-api.net,vbaz-16,reject with icmp admin-prohibited,never reached,prohibited" 7 \
        $(web "$appliance" 40006 https://apim-ratecard-v1.azure-api.net/)
    sleep 0.5
    attempt "cut,$me,40007,$butler,443,tcp,vbr.butler.veeam.com,vbaz-17,accept the handshake then reject payload with tcp reset,handshake only,cut" 35 \
        $(web "$appliance" 40007 https://vbr.butler.veeam.com/)
    sleep 0.5
    attempt "tls-refused,$me,40008,$pgdg,443,tcp,apt.postgresql.org,vbaz-06,accept,refuses TLS 1.2 with a fatal alert,tls-refused" 35 \
        $(web "$appliance" 40008 https://apt.postgresql.org/) --tls-max 1.2
    sleep 0.5
    attempt "unexpected,$me,40009,$evil,443,tcp,evil.example,,accept,answers,established" 0 \
        $(web "$appliance" 40009 https://evil.example/)
    sleep 0.5
    attempt "unexpected-dropped,$me,40010,$evil,8443,tcp,evil.example,,drop,never reached,filtered" 28 \
        $(web "$appliance" 40010 https://evil.example:8443/ 12) &
    background+=("$!")
    sleep 0.5
    attempt "name-unknown,$me,,,,udp,archive.ubuntu.com,vbaz-05b,accept,resolver says NXDOMAIN,no flow" 6 \
        $(web "$appliance" 40011 http://archive.ubuntu.com/)
    sleep 0.5
    attempt "mail,$me,40012,$mail,25,tcp,mail.contoso.example,vbaz-09a,accept,answers,established" 0 \
        $(web "$appliance" 40012 smtp://mail.contoso.example:25/appliance.contoso.example) \
        --mail-from appliance@contoso.example --mail-rcpt operator@contoso.example --upload-file "$work/www/InRelease"
    sleep 0.5
    attempt "wire-server,$me,40013,$wire,80,tcp,,plat-wire-80,accept,answers,established" 0 \
        $(web "$appliance" 40013 http://$wire/InRelease)
    attempt "instance-metadata,$me,40014,$imds,80,tcp,,plat-imds,accept,answers,established" 0 \
        $(web "$appliance" 40014 http://$imds/InRelease)
    sleep 0.5
    attempt "time,$me,40015,$ntp,123,udp,ntp.ubuntu.com,plat-time,drop,never reached,unanswered" 0 \
        ip netns exec "$appliance" python3 -c 'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 40015)); s.sendto(b"\x23" + bytes(47), ("ntp.ubuntu.com", 123))'
    sleep 0.5
    attempt "browser,$browser,40101,$me,443,tcp,appliance.contoso.example,vbaz-01 vbaz-02,accept,answers,established" 0 \
        $(web "$outside" 40101 https://appliance.contoso.example/) --interface $browser
    attempt "plug-in,$backup_server,40102,$me,443,tcp,appliance.contoso.example,vbaz-28,accept,answers,established" 0 \
        $(web "$outside" 40102 https://appliance.contoso.example/) --interface $backup_server
    attempt "closed-port,$console,40103,$me,22,tcp,,,accept,no program listens,refused" 7 \
        $(web "$outside" 40103 telnet://$me:22) --interface $console
    sleep 5
    # The firewall changes its mind: what worked above is refused now.
    R nft add element ip lab blocked_later "{ $nginx }"
    attempt "refused-later,$me,40016,$nginx,443,tcp,nginx.org,vbaz-15,reject with tcp reset,never reached,refused" 7 \
        $(web "$appliance" 40016 https://nginx.org/)
    wait "${background[@]}"
    sleep 2
    # And the capture goes on: the last packets are those of a connection that works.
    attempt "http-works-again,$me,40017,$ubuntu,80,tcp,security.ubuntu.com,vbaz-05a,accept,answers,established" 0 \
        $(web "$appliance" 40017 http://security.ubuntu.com/InRelease)
}
sleep 1
kill -INT "$recorder"
wait "$recorder" || true

# ---- check, then keep -----------------------------------------------------------------------------------------------

[ ! -e "$work/failed" ] || failed=1
R nft list chain ip lab forward >"$work/counters"
if grep -q 'counter packets 0 ' "$work/counters"; then
    echo "record.sh: a firewall rule never met a packet:" >&2
    cat "$work/counters" >&2
    failed=1
fi
if ! grep -q '^0 packets dropped by kernel' "$work/tcpdump.log"; then
    echo "record.sh: tcpdump lost packets" >&2
    failed=1
fi
[ "$failed" = 0 ] || { cat "$work/clients.log" >&2; exit 1; }

order="dropped http-works tls-works works-at-first reset prohibited cut tls-refused unexpected unexpected-dropped \
name-unknown mail wire-server instance-metadata time browser plug-in closed-port refused-later http-works-again"
{
    echo "$header"
    for row in $order; do cat "$work/row.$row"; done
} >"$out/lab-truth.csv"
cp "$work/lab.pcap" "$out/lab.pcap"
echo "wrote $out/lab.pcap ($(stat -c %s "$out/lab.pcap") bytes) and $out/lab-truth.csv ($(($(wc -l <"$out/lab-truth.csv") - 1)) attempts)"
