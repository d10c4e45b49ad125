for ns in client server fw; do
    ip netns add $ns
    ip -n $ns link set lo up
done
ip link add inside netns fw type veth peer name eth0 netns client
ip link add outside netns fw type veth peer name eth0 netns server
ip -n client address add 10.1.0.2/24 dev eth0
ip -n server address add 10.2.0.2/24 dev eth0
ip -n fw address add 10.1.0.1/24 dev inside
ip -n fw address add 10.2.0.1/24 dev outside
ip -n client link set eth0 up
ip -n server link set eth0 up
ip -n fw link set inside up
ip -n fw link set outside up
ip -n client route add default via 10.1.0.1
ip -n server route add default via 10.2.0.1
ip netns exec fw sysctl -q -w net.ipv4.ip_forward=1
