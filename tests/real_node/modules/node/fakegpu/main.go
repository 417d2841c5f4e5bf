// Command fakegpu is a device plugin that offers pretended GPUs to a kubelet.
//
// A GPU is unhealthy while a file of its name exists in the folder of faults.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	look     = 200 * time.Millisecond
	endpoint = "fakegpu.sock"
)

type plugin struct {
	api.UnimplementedDevicePluginServer
	count  int
	faults string
}

func (p *plugin) devices() []*api.Device {
	found := make([]*api.Device, p.count)
	for i := range found {
		found[i] = &api.Device{ID: fmt.Sprintf("gpu-%d", i), Health: api.Healthy}
		if _, err := os.Stat(filepath.Join(p.faults, found[i].ID)); err == nil {
			found[i].Health = api.Unhealthy
		}
	}
	return found
}

func (p *plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

func (p *plugin) ListAndWatch(_ *api.Empty, stream api.DevicePlugin_ListAndWatchServer) error {
	told := ""
	for {
		devices := p.devices()
		if now := fmt.Sprint(devices); now != told {
			if err := stream.Send(&api.ListAndWatchResponse{Devices: devices}); err != nil {
				return err
			}
			told = now
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-time.After(look):
		}
	}
}

func (p *plugin) Allocate(_ context.Context, asked *api.AllocateRequest) (*api.AllocateResponse, error) {
	given := &api.AllocateResponse{}
	for _, container := range asked.ContainerRequests {
		given.ContainerResponses = append(given.ContainerResponses, &api.ContainerAllocateResponse{
			Envs: map[string]string{
				"NVIDIA_VISIBLE_DEVICES": strings.Join(container.DevicesIds, ","),
				// there is no GPU behind it: the trainer may compute on the CPU
				"FINETUNE_DEVICE": "cpu",
			},
		})
	}
	return given, nil
}

// serve offers the GPUs until the kubelet has restarted, which removes the socket.
func serve(p *plugin, folder, resource string) error {
	socket := filepath.Join(folder, endpoint)
	if err := os.RemoveAll(socket); err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	api.RegisterDevicePluginServer(server, p)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	if err := register(folder, resource); err != nil {
		return err
	}
	log.Printf("registered %d %s", p.count, resource)
	for {
		if _, err := os.Lstat(socket); err != nil {
			return nil
		}
		time.Sleep(look)
	}
}

func register(folder, resource string) error {
	kubelet := "unix://" + filepath.Join(folder, "kubelet.sock")
	connection, err := grpc.NewClient(kubelet, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	limited, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err = api.NewRegistrationClient(connection).Register(limited, &api.RegisterRequest{
		Version: api.Version, Endpoint: endpoint, ResourceName: resource, Options: &api.DevicePluginOptions{},
	})
	return err
}

func main() {
	count := flag.Int("count", 1, "GPUs to offer")
	resource := flag.String("resource", "nvidia.com/gpu", "extended resource")
	folder := flag.String("folder", api.DevicePluginPath, "the kubelet's folder of device plugins")
	faults := flag.String("faults", "faults", "folder of fault files")
	flag.Parse()
	for {
		if err := serve(&plugin{count: *count, faults: *faults}, *folder, *resource); err != nil {
			log.Print(err)
		}
		time.Sleep(look)
	}
}
