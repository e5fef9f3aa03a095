# A host with the modules of kernel-patches/dkms whose grant leaves the view to its agent's report. The agent runs all the time and is never
# told anything: it notices by itself what comes and goes.
. ./lib.sh

format() { cat "/sys/block/$(disk)/integrity/format"; }

chmod +x holdfast-agent wac
modprobe nvme-tcp pi=1
modprobe ext4
# The API takes requests of its own machine alone: a tunnel, as ssh -L makes one.
printf '#!/bin/sh\nexec nc %s %s\n' "$GATEWAY" "$API_PORT" >tunnel
chmod +x tunnel
nc -ll -p 8080 -e ./tunnel &
printf '%s\n' "$TOKEN" >token

connect_all
result view_before "$(format)"
./holdfast-agent run --host "$HOST" --token-file token --every 3600 >/run/agent 2>&1 &
phase reported
disconnect
phase gone
connect_all
result view_after "$(format)"
phase connected

mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "/dev/$(disk)"
mount -t ext4 "/dev/$(disk)" /mnt
until [ "${raced:-}" = yes ]; do
    ./wac -w 4 -d -b -u -t 5 /mnt/file >/run/wac 2>&1 || raced=yes
done
cat /run/wac
umount /mnt
phase raced
