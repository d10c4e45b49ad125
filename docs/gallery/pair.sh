ip netns add red
ip netns add blue
ip link add to-blue netns red type veth peer name to-red netns blue
ip -n red address add 10.0.0.1/24 dev to-blue
ip -n blue address add 10.0.0.2/24 dev to-red
ip -n red link set lo up
ip -n blue link set lo up
ip -n red link set to-blue up
ip -n blue link set to-red up
