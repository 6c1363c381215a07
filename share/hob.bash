# bash completion for hob(1)

# The names of services; $1: the instance's directory, if one was given.
_hob_services() {
  hob ps --json ${1:+--data "$1"} 2>/dev/null | grep -o '"Name":"[^"]*"' | cut -d'"' -f4
}

_hob() {
  local current=${COMP_WORDS[COMP_CWORD]} previous= command= second= data= value_of= word options= words=
  local index
  for ((index = 1; index < COMP_CWORD; ++index)); do
    word=${COMP_WORDS[index]}
    previous=$word
    # "--data=DIR" comes as three words.
    [ "$word" = "=" ] && { previous=${COMP_WORDS[index - 1]}; continue; }
    if [ -n "$value_of" ]; then
      data=$word
      value_of=
      continue
    fi
    case $word in
      --data) value_of=data ;;
      -*) ;;
      *) if [ -z "$command" ]; then command=$word; elif [ -z "$second" ]; then second=$word; fi ;;
    esac
  done
  case $previous in
    --data) mapfile -t COMPREPLY < <(compgen -d -- "${current#=}"); return ;;
    --package|--ssh-key|--acme-ca-file|--acme-eab-key-file|--output|-o) mapfile -t COMPREPLY < <(compgen -f -- "${current#=}"); return ;;
    --isolation) words="auto microvm container" ;;
    --acme-challenge) words="http-01 tls-alpn-01" ;;
    --ocsp-responders) words="public any" ;;
    --protocol) words="http1 http2" ;;
    --strategy) words="rolling blue-green canary linear" ;;
  esac
  if [ -n "$words" ]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "${current#=}")
    return
  fi
  case $command in
    "") words="up down upgrade status env doctor build deploy ps logs exec open describe scale pause resume restart cancel promote deploys revisions rollback rm aws domain certificate trust remote connection registry kernel account"
        options="--version" ;;
    up) options="--region --api-port --http-port --https-port --store --isolation --cpu-overcommit --memory-overcommit --acme-directory --acme-contact --acme-ca-file --acme-eab-kid --acme-eab-key-file --acme-challenge --resolver --ocsp-responders --public --detach" ;;
    down) options="--purge" ;;
    upgrade) options="--drain-timeout" ;;
    build) options="--output --source-directory" ;;
    deploy) options="--source-directory --name --port --env --cpu --memory --health-path --command --request-timeout --idle-timeout --protocol --isolation --min-size --min-size-schedule --sleep-after --stop-after --strategy --keep-previous --sticky --auto-deploy --no-wait" ;;
    exec) options="--task" ;;
    logs) options="--follow --lines --since --events --timestamps" ;;
    scale) options="--min-size --max-size --concurrency --sleep-after --stop-after --min-size-schedule --strategy --keep-previous --sticky" ;;
    pause|resume|restart|rm) options="--no-wait" ;;
    rollback) options="--to" ;;
    trust) options="--remove" ;;
    domain) case $second in
        "") words="add ls rm" ;;
        add) options="--no-www --no-wait" ;;
        rm) options="--no-wait" ;;
      esac ;;
    certificate) case $second in
        "") words="add ls rm" ;;
        add) options="--name" ;;
      esac ;;
    kernel) case $second in
        "") words="install" ;;
        install) options="--package" ;;
      esac ;;
    remote) case $second in
        "") words="add show" ;;
        add) options="--remote" ;;
      esac ;;
    connection) case $second in
        "") words="create complete ls rm" ;;
        create) options="--provider" ;;
        complete) options="--username --token-stdin --ssh-key" ;;
      esac ;;
    registry) case $second in
        "") words="login logout list" ;;
        login) options="--username --password-stdin" ;;
      esac ;;
    account) [ -n "$second" ] || words="create list" ;;
    aws) words="apprunner ecr logs sts" ;;
  esac
  if [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options --data --json --help" -- "$current")
    return
  fi
  case $command in
    build) mapfile -t COMPREPLY < <(compgen -d -- "$current"); return ;;
    deploy) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    certificate) [ "$second" != add ] || { mapfile -t COMPREPLY < <(compgen -f -- "$current"); return; } ;;
    logs|exec|scale|rollback|open|describe|pause|resume|restart|cancel|promote|deploys|revisions|rm) words=$(_hob_services "$data") ;;
    domain) [ -z "$second" ] || words=$(_hob_services "$data") ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -F _hob hob
