# bash completion for hob(1)

_hob_services() {
  hob ps --json 2>/dev/null | grep -o '"Name":"[^"]*"' | cut -d'"' -f4
}

_hob() {
  local current=${COMP_WORDS[COMP_CWORD]} command= word
  local commands="up down upgrade status env doctor build deploy ps logs open describe scale pause resume restart cancel promote deploys revisions rollback rm aws domain certificate trust remote connection registry kernel account"
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $word in
      -*) ;;
      *) command=$word; break ;;
    esac
  done
  if [ -z "$command" ]; then
    mapfile -t COMPREPLY < <(compgen -W "$commands --data --json --version --help" -- "$current")
    return
  fi
  case $command in
    up) mapfile -t COMPREPLY < <(compgen -W "--region --api-port --http-port --https-port --store --public --detach --isolation --cpu-overcommit --memory-overcommit --data" -- "$current") ;;
    down) mapfile -t COMPREPLY < <(compgen -W "--purge --data" -- "$current") ;;
    upgrade) mapfile -t COMPREPLY < <(compgen -W "--drain-timeout --json --data" -- "$current") ;;
    build) mapfile -t COMPREPLY < <(compgen -W "--output --source-directory --json" -- "$current"; compgen -d -- "$current") ;;
    deploy) mapfile -t COMPREPLY < <(compgen -W "--source-directory --name --port --env --cpu --memory --health-path --command --request-timeout --idle-timeout --min-size --min-size-schedule --sleep-after --stop-after --protocol --sticky --strategy --keep-previous --auto-deploy --no-wait --json" -- "$current")
            mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current") ;;
    logs) mapfile -t COMPREPLY < <(compgen -W "$(_hob_services) --follow --lines --since --events --timestamps" -- "$current") ;;
    scale) mapfile -t COMPREPLY < <(compgen -W "$(_hob_services) --min-size --max-size --concurrency --sleep-after --stop-after --min-size-schedule --strategy --keep-previous --sticky --json" -- "$current") ;;
    rollback) mapfile -t COMPREPLY < <(compgen -W "$(_hob_services) --to" -- "$current") ;;
    open|describe|pause|resume|restart|cancel|promote|deploys|revisions|rm) mapfile -t COMPREPLY < <(compgen -W "$(_hob_services)" -- "$current") ;;
    trust) mapfile -t COMPREPLY < <(compgen -W "--remove --data" -- "$current") ;;
    domain) mapfile -t COMPREPLY < <(compgen -W "add ls rm $(_hob_services) --no-www --no-wait --json" -- "$current") ;;
    certificate) mapfile -t COMPREPLY < <(compgen -W "add ls rm --name --json" -- "$current")
                 mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current") ;;
    kernel) mapfile -t COMPREPLY < <(compgen -W "install" -- "$current") ;;
    remote) mapfile -t COMPREPLY < <(compgen -W "add show $(_hob_services) --remote --json" -- "$current") ;;
    connection) mapfile -t COMPREPLY < <(compgen -W "create complete ls rm --provider --username --token-stdin --ssh-key --json" -- "$current")
                mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current") ;;
    registry) mapfile -t COMPREPLY < <(compgen -W "login logout list" -- "$current") ;;
    account) mapfile -t COMPREPLY < <(compgen -W "create list" -- "$current") ;;
    aws) mapfile -t COMPREPLY < <(compgen -W "apprunner ecr logs sts" -- "$current") ;;
  esac
}
complete -F _hob hob
