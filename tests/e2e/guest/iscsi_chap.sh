# open-iscsi proves itself to the target, and the target to it: with every algorithm, with wrong names and secrets, with a secret
# that changes meanwhile, in discovery and in sessions.
. ./lib.sh

# Exit statuses of iscsiadm(8): the target did not take the initiator's proof (ISCSI_ERR_LOGIN_AUTH_FAILED), the initiator did not
# take the target's (ISCSI_ERR_FATAL_LOGIN).
NOT_LET_IN=24
NOT_TRUSTED=19

node() { iscsiadm -m node -T "$IQN" -p "$GATEWAY:$PORT" "$@"; }
sets() { node --op update -n "node.session.auth.$1" -v "$2"; }
sessions() { iscsiadm -m session 2>/dev/null | grep -c . || :; }

# proving METHOD USER SECRET [TARGET_USER TARGET_SECRET]: what the next login shows and asks for. A record made anew forgets
# the last one's.
proving() {
    node --op delete >/dev/null 2>&1 || :
    node -o new >/dev/null
    node --op update -n node.session.initial_login_retry_max -v 1
    sets authmethod "$1"
    [ "$1" = None ] || { sets username "$2"; sets password "$3"; sets chap_algs "${ALGORITHM:-MD5}"; }
    [ $# -lt 5 ] || { sets username_in "$4"; sets password_in "$5"; }
}

# refused STATUS WHAT: a login fails because of a proof, and leaves no session.
refused() {
    local status=0
    node --login >/run/login 2>&1 || status=$?
    [ "$status" = "$1" ] || { cat /run/login /run/iscsid.log; fail "status $status, not $1: $2"; }
    [ "$(sessions)" = 0 ] || fail "a session: $2"
    echo "--- refused: $2"
}

disk_is_there() { [ -n "$(block_of '*' 0)" ]; }

# works WHAT: a login, a block there and back.
works() {
    node --login >/run/login 2>&1 || { cat /run/login /run/iscsid.log; fail "no login: $1"; }
    wait_until disk_is_there
    disk=$(block_of '*' 0)
    head -c 65536 /dev/urandom >/run/out
    dd if=/run/out of="$disk" bs=65536 oflag=direct 2>/dev/null
    dd if="$disk" of=/run/in bs=65536 count=1 iflag=direct 2>/dev/null
    cmp /run/out /run/in || fail "other data: $1"
    echo "--- works: $1"
    worked=$((worked + 1))
}
leaves() { node --logout >/dev/null; }
new_secret_works() { node --login >/run/login 2>&1; }

# discovers SECRET TARGET_SECRET: with what iscsid.conf says of discovery.
discovers() {
    sed -i '/^discovery\.sendtargets\.auth/d' /etc/iscsi/iscsid.conf
    cat >>/etc/iscsi/iscsid.conf <<EOF
discovery.sendtargets.auth.authmethod = CHAP
discovery.sendtargets.auth.username = $USER_NAME
discovery.sendtargets.auth.password = $1
discovery.sendtargets.auth.username_in = $TARGET_NAME
discovery.sendtargets.auth.password_in = $2
EOF
    iscsiadm -m discovery -t sendtargets -p "$GATEWAY:$PORT"
}

worked=0
iscsi_starts

discovers "$SECRET" "$TARGET_SECRET" >/run/found
grep -qxF "$GATEWAY:$PORT,1 $IQN" /run/found || fail "discovery with CHAP found: $(cat /run/found)"
! discovers "$WRONG" "$TARGET_SECRET" || fail "discovery with a wrong secret"
! discovers "$SECRET" "$WRONG" || fail "discovery from a target with a wrong secret"

proving None
refused $NOT_LET_IN "no proof"
proving CHAP "$USER_NAME" "$WRONG"
refused $NOT_LET_IN "a wrong secret"
proving CHAP somebody "$SECRET"
refused $NOT_LET_IN "a wrong name"

for ALGORITHM in MD5 SHA1 SHA256 SHA3-256; do
    proving CHAP "$USER_NAME" "$SECRET"
    works "$ALGORITHM"
    leaves
    proving CHAP "$USER_NAME" "$SECRET" "$TARGET_NAME" "$TARGET_SECRET"
    works "$ALGORITHM both ways"
    leaves
    proving CHAP "$USER_NAME" "$SECRET" "$TARGET_NAME" "$WRONG"
    refused $NOT_TRUSTED "a target with a wrong secret, $ALGORITHM"
done

ALGORITHM='SHA3-256,SHA256,SHA1,MD5'
proving CHAP "$USER_NAME" "$SECRET" "$TARGET_NAME" "$TARGET_SECRET"
works "$ALGORITHM both ways"
phase logged_in
# The secret has changed: the session goes on, and nobody else gets in with the old one.
leaves
proving CHAP "$USER_NAME" "$NEW_SECRET" "$TARGET_NAME" "$TARGET_SECRET"
wait_until new_secret_works
leaves
works "the new secret"
leaves
proving CHAP "$USER_NAME" "$SECRET" "$TARGET_NAME" "$TARGET_SECRET"
refused $NOT_LET_IN "the secret from before"
result worked "$worked"
