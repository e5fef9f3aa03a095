# Runs the job $JOB against Linux's own target in this same guest: proves the job, with no appliance to blame.
. ./lib.sh
modprobe -a nvmet nvmet-tcp
mount -t configfs configfs /sys/kernel/config
modprobe brd rd_nr=1 rd_size=524288
cd /sys/kernel/config/nvmet
mkdir "subsystems/$NQN" "subsystems/$NQN/namespaces/1" ports/1
echo 1 >"subsystems/$NQN/attr_allow_any_host"
echo -n /dev/ram0 >"subsystems/$NQN/namespaces/1/device_path"
echo "$UUID" >"subsystems/$NQN/namespaces/1/device_uuid"
echo 1 >"subsystems/$NQN/namespaces/1/enable"
echo tcp >ports/1/addr_trtype
echo ipv4 >ports/1/addr_adrfam
echo 127.0.0.1 >ports/1/addr_traddr
echo "$PORT" >ports/1/addr_trsvcid
ln -s "/sys/kernel/config/nvmet/subsystems/$NQN" ports/1/subsystems/
cd /job
echo "GATEWAY=127.0.0.1" >>variables.sh
exec sh -eu "./$JOB"
