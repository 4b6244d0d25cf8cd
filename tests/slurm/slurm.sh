# shellcheck shell=bash
# A Slurm of one node that needs no installation, no service and no root: Debian's packages are unpacked into a folder,
# and slurmctld and slurmd run from there with their own configuration, state and ports. It is sourced after common.sh.

# Exit code 77 means "skipped" to automake, Meson and .ci/run.
skip() {
    printf 'skipped: %s\n' "$*"
    exit 77
}

# Names of packages unpacked once and used again by later runs.
packages=${BURGESS_TEST_PACKAGES:-${CARGO_TARGET_DIR:-$top/target}/scheduler-packages}

# candidate PACKAGE: prints the version that apt would install.
candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p' | grep -v none || true; }

# unpack MARK PACKAGE...: downloads packages with the libraries that this machine lacks, and unpacks them.
unpack() {
    local mark=$1 package
    shift
    [ ! -e "$packages/$mark.done" ] || return 0
    for package in apt-get apt-cache dpkg; do
        command -v "$package" >/dev/null || skip "this system has no $package"
    done
    if [ -z "$(candidate "$1")" ] && [ "$(id -u)" = 0 ]; then apt-get update -q >&2 || true; fi
    [ -n "$(candidate "$1")" ] || skip "apt knows no package $1 (sources of Debian 12 and \`apt-get update\` are needed)"
    mkdir -p "$packages/debs" "$packages/root"
    (
        cd "$packages/debs"
        apt-get download -q "$@" 2>&1 || skip "apt-get cannot download $*"
        apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
            --no-enhances "$@" | grep '^lib' | sort -u | while read -r package; do
            # A dependency may have alternatives that cannot be had; what is missing in the end shows when it starts.
            dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
                apt-get download -q "$package" 2>&1 || true
        done
    ) >"$packages/$mark.log" || {
        local code=$?
        cat "$packages/$mark.log"
        exit "$code"
    }
    for package in "$packages"/debs/*.deb; do dpkg -x "$package" "$packages/root"; done
    touch "$packages/$mark.done"
}

# free_port: prints a TCP port of this machine on which nothing listens, below those that the kernel gives to clients.
free_port() {
    local port
    while :; do
        port=$((10000 + RANDOM % 20000))
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# start_slurm DIRECTORY: unpacks Slurm, starts it with two CPUs, and sets the environment for its commands.
start_slurm() {
    local dir=$1 host root=$packages/root
    unpack slurm slurmctld slurmd slurm-client slurm-wlm-basic-plugins
    export LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu/slurm-wlm:$root/usr/lib/x86_64-linux-gnu
    export PATH=$root/usr/bin:$PATH SLURM_CONF=$dir/slurm.conf
    local version
    version=$("$root/usr/sbin/slurmctld-wlm" -V) || fail "slurmctld does not start: $version"
    case $version in
    slurm*22.05.*) ;;
    *) skip "this harness is written for Slurm 22.05 (Debian 12); apt offers $version" ;;
    esac
    host=$(uname -n) host=${host%%.*}
    mkdir -p "$dir/state" "$dir/spool"
    # cred_expire: a requeued job starts after this time + 1 s (120 s by default; less than 5 s counts as 120).
    # config_overrides: the node has two CPUs for Slurm, however many the machine has.
    cat >"$SLURM_CONF" <<CONF
ClusterName=burgess
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
PluginDir=$root/usr/lib/x86_64-linux-gnu/slurm-wlm
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
KillWait=15
MinJobAge=3600
SchedulerParameters=sched_interval=2,bf_interval=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
    "$root/usr/sbin/slurmctld-wlm" -D -c >"$dir/slurmctld.out" 2>&1 &
    slurmctld=$!
    "$root/usr/sbin/slurmd-wlm" -D -c -d "$root/usr/sbin/slurmstepd-wlm" >"$dir/slurmd.out" 2>&1 &
    slurmd=$!
    local n
    for n in {1..120}; do
        if [ "$(sinfo -h -o %T 2>/dev/null)" = idle ]; then
            printf 'Slurm %s: node %s with 2 CPUs is idle\n' "${version#slurm*-wlm }" "$host"
            return
        fi
        sleep 0.5
    done
    tail -n 20 "$dir"/slurm*.log "$dir"/slurm*.out >&2
    # A sandbox may forbid what the daemons need; the lines above say what. That is no defect of the study.
    skip "slurmctld and slurmd did not become ready in 60 seconds"
}

# stop_slurm: ends every job, then both daemons.
stop_slurm() {
    [ -n "${slurmctld:-}" ] || return 0
    scancel --user="$(id -un)" 2>/dev/null || true
    local n
    for n in {1..40}; do
        [ -n "$(squeue -h 2>/dev/null)" ] || break
        sleep 0.5
    done
    [ -z "${slurmd:-}" ] || kill "$slurmd" 2>/dev/null || true
    kill "$slurmctld" 2>/dev/null || true
    wait "${slurmd:-$slurmctld}" "$slurmctld" 2>/dev/null || true
    slurmctld='' slurmd=''
}

# state_of JOB_TASK FIELD: prints a field of `scontrol show job`, such as JobState, Restarts or ExitCode.
state_of() { scontrol show job "$1" 2>/dev/null | tr ' ' '\n' | sed -n "s/^$2=//p" | head -1; }
