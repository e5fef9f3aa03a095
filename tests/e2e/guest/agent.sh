# holdfast-agent on a host with the same volume over NVMe/TCP and over iSCSI, both in the PI view: what it shows, reports, and finds out
# by writing bad tuples.
. ./lib.sh

appeared() { [ -n "$(block_of 1 0)" ]; }
# caught NAME WHAT TEXT: the line of a self-test about this write.
caught() { grep -F "$2" "/run/$1" | grep -qF "$3" || fail "$1: $2 was not: $3"; }

chmod +x holdfast-agent
agent=./holdfast-agent

iscsi_starts
iscsiadm -m node -o new -T "$IQN" -p "$GATEWAY:$ISCSI_PORT,1" >/dev/null
iscsiadm -m node -T "$IQN" -p "$GATEWAY:$ISCSI_PORT" --login
wait_until appeared
modprobe nvme-tcp
connect_all
scsi=$(block_of 1 0) name=$(disk)
generic=/dev/ng${name#nvme}

asked show "$agent" show
grep -q "^kernel *$(uname -r)\$" /run/show || fail "another kernel is shown"
asked json "$agent" show --output json
grep -q '"kernel": "'"$(uname -r)" /run/json || fail "another kernel in JSON"
result holes "$(sed -n 's/^  HOLE *\([a-z0-9-]*\):.*/\1/p' /run/show | sort -u | tr '\n' ' ')"

# The API takes requests of its own machine alone: a tunnel, as ssh -L makes one.
printf '#!/bin/sh\nexec nc %s %s\n' "$GATEWAY" "$API_PORT" >tunnel
chmod +x tunnel
nc -ll -p 8080 -e ./tunnel &
echo "not the token" >wrong
! "$agent" run --host "$HOST" --once --token-file wrong >/run/refused 2>&1 || fail "a wrong token was taken"
grep -q 401 /run/refused || fail "refused for another reason: $(cat /run/refused)"
! "$agent" run --host "$HOST" --once >/run/refused 2>&1 || fail "a report without a token was taken"
printf '%s\n' "$TOKEN" >token
asked run "$agent" run --host "$HOST" --once --token-file token
phase reported

# A block with contents is the same afterwards.
head -c 4096 /dev/urandom >/run/block
dd if=/run/block of="$scsi" bs=4096 seek=5 oflag=direct 2>/dev/null
for device in "$scsi" "$generic"; do
    asked test "$agent" self-test "$device" --scratch 5 --may-be-lost
    caught test "a good tuple" "taken"
    caught test "a bad guard" "caught by the target"
    caught test "a bad reference tag" "caught by the target"
    dd if="$scsi" of=/run/back bs=4096 skip=5 count=1 iflag=direct 2>/dev/null
    cmp /run/block /run/back || fail "the scratch block was not put back"
done
grep -q "status 284h" /run/test || fail "NVMe answered with another status"
asked json "$agent" self-test "$scsi" --scratch 5 --may-be-lost --output json
grep -q 'sense bh 10h/01h' /run/json && grep -q 'sense bh 10h/03h' /run/json || fail "SCSI answered with other sense"
! "$agent" self-test "$scsi" --scratch 99999999 --may-be-lost 2>/run/refused || fail "a block behind the end"
grep -q "it has 16384 blocks" /run/refused || fail "not refused for its size: $(cat /run/refused)"
! "$agent" self-test /dev/null --scratch 5 --may-be-lost 2>/run/refused || fail "a self-test of nothing"
grep -q "neither an NVMe namespace nor a SCSI disk" /run/refused || fail "$(cat /run/refused)"
