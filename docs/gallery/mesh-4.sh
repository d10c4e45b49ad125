net=0
for a in $(seq 0 3); do
    ip netns add r$a
    ip -n r$a link set lo up
done
for b in $(seq 1 3); do
    for a in $(seq 0 $((b - 1))); do
        ip link add r$b netns r$a type veth peer name r$a netns r$b
        ip -n r$a address add 10.50.0.$net/31 dev r$b
        ip -n r$b address add 10.50.0.$((net + 1))/31 dev r$a
        ip -n r$a link set r$b up
        ip -n r$b link set r$a up
        net=$((net + 2))
    done
done
