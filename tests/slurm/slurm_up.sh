#!/usr/bin/env bash
# A real SLURM of two nodes, both on localhost (munged, slurmctld, two slurmd), for tests, in a container without systemd
# or cgroups.
#   slurm_up.sh up FOLDER     start it; everything it writes lies in FOLDER; then: export SLURM_CONF=FOLDER/slurm.conf
#   slurm_up.sh down FOLDER   cancel its jobs and end its daemons
# Needs root and the packages slurm-wlm and munge. Two partitions: low, whose jobs are preempted by those of high.
set -euo pipefail
action=${1:?up or down} folder=$(realpath -m "${2:?a folder}")
export SLURM_CONF=$folder/slurm.conf

alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }

configure() {
  mkdir -p "$folder"/{munge,state,spool,log}
  # munged refuses a key or socket that others could write to, on any folder of the path.
  chown munge:munge "$folder/munge"
  dd if=/dev/urandom of="$folder/munge/key" bs=1024 count=1 status=none
  chown munge:munge "$folder/munge/key"
  chmod 400 "$folder/munge/key"
  local ports cpus memory
  # Free ports, one for each daemon.
  ports=($(python3 - <<'PYTHON'
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(s.getsockname()[1] for s in sockets))
PYTHON
))
  # More than there are: a job that is held leaves its own to another one.
  cpus=$((2 * $(env -u OMP_NUM_THREADS nproc))) # which would answer with that number
  ((cpus > 2)) || cpus=4
  memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
  cat > "$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
SlurmctldPort=${ports[0]}
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
# No cgroups, no systemd, no accounting in a container.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,sched_min_interval=0,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# Without it a preempted job gets SIGTERM in place of the signal that it asked for.
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
# The port at which a job's ranks meet is made of its number: not that of another cluster on this machine.
FirstJobId=$((RANDOM % 9000 + 1))
KillWait=120
# Neither is called localhost: SLURM would take the other one for it. No network knows the names: jobs of several nodes
# need a MASTER_ADDR.
NodeName=here NodeHostname=localhost NodeAddr=127.0.0.1 Port=${ports[1]} CPUs=$cpus Boards=1 SocketsPerBoard=1 CoresPerSocket=$cpus ThreadsPerCore=1 RealMemory=$memory State=UNKNOWN
NodeName=neighbour NodeHostname=localhost NodeAddr=127.0.0.1 Port=${ports[2]} CPUs=$cpus Boards=1 SocketsPerBoard=1 CoresPerSocket=$cpus ThreadsPerCore=1 RealMemory=$memory State=UNKNOWN
PartitionName=low Nodes=here,neighbour Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=300
PartitionName=high Nodes=here,neighbour MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
}

up() {
  configure
  runuser -u munge -- munged --socket="$folder/munge/socket" --key-file="$folder/munge/key" \
    --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
  slurmctld -f "$SLURM_CONF"
  local node state
  for node in here neighbour; do slurmd -N "$node" -f "$SLURM_CONF"; done # a container has another name than they
  for _ in $(seq 300); do
    state=$(sinfo --noheader --Node --partition=low --format=%T 2>/dev/null | sort -u | xargs || true)
    case $state in
      idle) return ;;
      *down* | *drain*) scontrol update NodeName=here,neighbour State=RESUME || true ;;
    esac
    sleep 0.2
  done
  echo "SLURM did not come up:" >&2
  tail -n 20 "$folder"/log/*.log "$folder/munge/log" >&2
  return 1
}

down() {
  # What is held by SIGSTOP heeds nothing else.
  scancel --full --signal=KILL --user="$(id -un)" 2>/dev/null || true
  scancel --full --user="$(id -un)" 2>/dev/null || true
  for pid in "$folder"/{slurmd-here.pid,slurmd-neighbour.pid,slurmctld.pid,munge/pid}; do
    if alive "$pid"; then
      local number
      number=$(cat "$pid")
      kill "$number"
      for _ in $(seq 100); do
        kill -0 "$number" 2>/dev/null || break
        sleep 0.1
      done
    fi
  done
}

"$action"
